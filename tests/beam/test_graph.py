"""The graphs as a remote runner gets them: built offline, and whole in another process."""

import base64
import json
import re
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions
from apache_beam.portability.api import beam_runner_api_pb2

from beam_pipelines import curate, write_tokens
from beam_pipelines.curate import CurationConfig
from beam_pipelines.filters import FilterConfig
from beam_pipelines.read_sources import list_inputs
from beam_pipelines.write_tokens import WriteTokensConfig
from tests.beam.test_curate import write_corpus
from welm_jax import gin_files

LARGEST = 10 << 20  # bytes of a graph that Dataflow takes
UNPICKLE = """
import base64, json, sys
from apache_beam.internal import pickler
for line in sys.stdin:
    pickler.loads(base64.b64decode(json.loads(line)))
print(*{"tests.beam.test_graph", "jax", "tensorflow"} & {*sys.modules})
"""


def curation(pipeline, folder):
    raw = write_corpus(folder / "raw", files=3)
    config = CurationConfig(raw_dir=str(raw), output_dir=str(folder / "out"))
    curate.recipe(pipeline, list_inputs(str(raw), {}), config, FilterConfig(), folder)


def tokens(pipeline, folder):
    documents = partial(write_tokens.curated_documents, folder / "train.parquet")
    shard = write_tokens.TextShard("news", "train", 0, 1, documents, "00")
    config = WriteTokensConfig(
        curated_dir=str(folder), tokenizer="m", output_dir=str(folder), sequence_tokens=8
    )
    write_tokens.recipe(pipeline, [shard], config, folder)


@pytest.fixture(params=[curation, tokens])
def graph(request, tmp_path):
    pipeline = beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"]))
    request.param(pipeline, tmp_path)
    return pipeline.to_runner_api()


def invocations():
    """The commands of docs/curation.md that name a runner."""
    text = (Path(__file__).parents[2] / "docs/curation.md").read_text().replace("\\\n", " ")
    return [line for line in text.split("\n") if "--runner=" in line and line[:6] == "python"]


@pytest.mark.parametrize("command", invocations())
def test_what_the_docs_tell_to_type_is_known_to_beam(command):
    _, _, rest = gin_files.split_arguments(shlex.split(command)[3:])
    options = PipelineOptions(rest)
    assert options.get_all_options() == options.get_all_options(retain_unknown_options=True)
    assert not options.view_as(SetupOptions).save_main_session


def test_flink_spark_and_dataflow_are_told():
    runners = [re.search(r"--runner=(\w+)", one).group(1) for one in invocations()]
    assert runners == ["FlinkRunner", "SparkRunner", "DataflowRunner"]


def test_a_graph_survives_its_wire_form_and_is_small(graph):
    wire = graph.SerializeToString()
    assert beam_runner_api_pb2.Pipeline.FromString(wire) == graph
    assert len(wire) < LARGEST / 10


def test_every_function_can_be_unpickled_in_a_process_elsewhere(graph, tmp_path):
    payloads = []
    for transform in graph.components.transforms.values():
        if transform.spec.urn == "beam:transform:pardo:v1":
            pardo = beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload)
            payloads += [pardo.do_fn.payload] if pardo.do_fn.payload else []  # Beam's own have none
    assert len(payloads) >= 3
    lines = "".join(json.dumps(base64.b64encode(one).decode()) + "\n" for one in payloads)
    command = [sys.executable, "-c", UNPICKLE]
    ended = subprocess.run(command, input=lines, capture_output=True, text=True, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "\n"), ended.stderr


def test_no_text_is_shuffled(tmp_path):
    """What meets by key: files, keys, bands, sketches, pairs, drops, and where texts lie."""
    pipeline = beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"]))
    curation(pipeline, tmp_path)
    groups = {
        one.unique_name.split("/")[0]
        for one in pipeline.to_runner_api().components.transforms.values()
        if one.spec.urn == "beam:transform:group_by_key:v1"
    }
    assert groups == {
        *("raw files", "every shard, even if empty", "spread over workers", "meet by text"),
        *("meet by band", "look up the better copy", "look up the other", "drops of each file"),
        *("meet by shard", "lowest and highest", "ledger"),
    }
