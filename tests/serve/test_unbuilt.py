"""Endpoints whose rooms are not built answer 501 in OpenAI's error shape."""

from __future__ import annotations

import openai
import pytest

from octavo.generate.scripted import ScriptedModel


@pytest.fixture(scope="module")
def client(start_server):
    running = start_server([ScriptedModel(["a"])])
    yield running.openai()
    running.stop()


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.moderations.create(input="a"),
        lambda client: client.batches.list(),
        lambda client: client.images.generate(prompt="a"),
    ],
)
def test_the_official_client_learns_that_it_is_not_built(client, call):
    with pytest.raises(openai.InternalServerError) as refused:
        call(client)
    assert (refused.value.status_code, refused.value.code) == (501, "not_implemented")
    assert "is not built" in refused.value.message
