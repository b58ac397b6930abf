"""Endpoints of OpenAI's API whose rooms are not built yet: 501 with a line that says so, under every method.

A client then learns that the server knows the endpoint and does not have it, which a 404 would not say.
"""

from __future__ import annotations

from fastapi import APIRouter

from octavo.serve.errors import ApiError

router = APIRouter(include_in_schema=False)

UNBUILT = {
    "moderations": "judge texts with 'octavo guard'",
    "batches": "send the requests one by one or at the same time",
    "images": "this version makes no pictures",
    "audio": "this version neither hears nor speaks",
    "fine_tuning": "train with 'octavo train'",
}
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def _route(name: str, reason: str) -> None:
    async def refuse(rest: str = "") -> None:
        raise ApiError(501, "not_implemented", f"/v1/{name} is not built: {reason}.")

    for path in (f"/v1/{name}", f"/v1/{name}/{{rest:path}}"):
        router.add_api_route(path, refuse, methods=METHODS)


for _name, _reason in UNBUILT.items():
    _route(_name, _reason)
