import pytest

from tests.evaluate.small_datasets import small_tokenizer, write_datasets


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    return small_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="session")
def folders(tokenizer, tmp_path_factory):
    return write_datasets(tmp_path_factory.mktemp("tokens"), tokenizer)
