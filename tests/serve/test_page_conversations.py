"""The page's conversations on the server: the later writing stays, keys are apart, and none where none kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from octavo.generate.scripted import ScriptedModel

WHERE = "/v1/page/conversations"


def conversation(name: str = "a1", updated: float = 5, **fields: Any) -> dict[str, Any]:
    blank = {"title": "t", "created": 1, "tip": None, "settings": {"system": ""}, "messages": []}
    return {"id": name, "updated": updated, **blank, **fields}


def test_of_two_writings_the_later_one_stays_whichever_arrives_first(start_server: Any) -> None:
    running = start_server([ScriptedModel(["x"])])
    http = running.http()
    assert http.put(f"{WHERE}/a1", json=conversation(updated=9, title="later")).json() == {"id": "a1", "updated": 9}
    assert http.put(f"{WHERE}/a1", json=conversation(updated=5, title="earlier")).json() == {"id": "a1", "updated": 9}
    assert http.get(f"{WHERE}/a1").json() == conversation(updated=9, title="later")
    assert http.get(WHERE).json()["data"] == [{"id": "a1", "updated": 9}]
    for path, body in (
        ("a2", conversation()),
        ("a1", conversation(extra=1)),
        ("a1", conversation(updated=-1)),
        ("a b", conversation("a b")),
        ("a1", conversation(messages="x")),
    ):
        assert http.put(f"{WHERE}/{path}", json=body).status_code == 400
    assert http.delete(f"{WHERE}/a1").json()["deleted"] and http.delete(f"{WHERE}/a1").json()["deleted"]
    assert http.get(f"{WHERE}/a1").status_code == 404 and http.get(WHERE).json()["data"] == []
    running.stop()


def test_keys_are_apart_and_a_server_that_keeps_nothing_says_so(start_server: Any, tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    for key, seen in (("first", ["a1"]), ("second", [])):
        running = start_server([ScriptedModel(["x"])], state_path=path, api_key=key)
        http = running.http()
        http.headers["Authorization"] = f"Bearer {key}"
        if key == "first":
            http.put(f"{WHERE}/a1", json=conversation())
        assert [entry["id"] for entry in http.get(WHERE).json()["data"]] == seen
        running.stop()
    running = start_server([ScriptedModel(["x"])], store=False)
    assert running.http().put(f"{WHERE}/a1", json=conversation()).status_code == 409
    running.stop()
