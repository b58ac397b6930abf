"""Who is let in: hosts, origins, keys, kinds and sizes of bodies; and every error has OpenAI's shape."""

from __future__ import annotations

import socket

import openai
import pytest

from octavo.errors import OctavoError
from octavo.generate.scripted import ScriptedModel
from octavo.serve.http.page_files import page_files
from octavo.serve.http.settings import ServerSettings

KEY = "sk-octavo-test"


@pytest.fixture(scope="module")
def locked(start_server):
    running = start_server([ScriptedModel(["yes"])], api_key=KEY)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def open_server(start_server):
    running = start_server([ScriptedModel(["yes"])], max_body=2000, body_seconds=0.3, allowed_hosts=("Octavo.example",))
    yield running
    running.stop()


def test_no_route_but_health_and_the_page_answers_without_the_key(locked):
    http = locked.http()
    app = locked.server.config.app
    public = {"/health", *page_files()}
    paths = {"/openapi.json", *app.openapi()["paths"], *public}
    assert {"/v1/models", "/v1/chat/completions", "/v1/completions", "/"} <= paths
    for path in sorted(paths | {"/nowhere", "/v1", "/health/", "/HEALTH", "/docs"}):
        for method in ("GET", "POST", "DELETE", "OPTIONS", "HEAD"):
            response = http.request(method, path.replace("{model_id:path}", "x"))
            if path in public and method in ("GET", "HEAD"):
                assert response.status_code in (200, 405)
            else:
                assert response.status_code == 401, (method, path)
                assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer x", f"Basic {KEY}", KEY, f"Bearer {KEY}x"])
def test_a_wrong_key_is_refused(locked, header):
    response = locked.http().get("/v1/models", headers={"Authorization": header})
    assert response.status_code == 401 and response.json()["error"]["code"] == "invalid_api_key"


def test_the_client_with_the_key_is_let_in_and_without_it_raises_authentication_error(locked):
    assert locked.openai(api_key=KEY).models.list().data
    with pytest.raises(openai.AuthenticationError):
        locked.openai(api_key="wrong").models.list()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8000", "[::1]:80", "LOCALHOST", "octavo.example:9"])
def test_names_of_this_machine_and_allowed_hosts_are_answered(open_server, host):
    assert open_server.http().get("/v1/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "evil.local", "0.0.0.0", "", "::1"]
)
@pytest.mark.parametrize("path", ["/", "/health", "/v1/models"])
def test_another_host_is_refused_everywhere(open_server, host, path):
    response = open_server.http().get(path, headers={"Host": host})
    assert response.status_code == 403 and response.json()["error"]["code"] == "host_not_allowed"


def asked(running, target, host):
    with socket.create_connection(("127.0.0.1", running.port)) as client:
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = client.makefile("rb").read().decode()
    return int(answer.split()[1]), answer


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://localhost:{port}/v1/models/a%20b?x=1", "localhost", 404),
        ("http://LOCALHOST:{port}/v1/models", "anything.example", 200),  # RFC 9112, 3.2.2: the target's counts
        ("HTTP://127.0.0.1/health", "127.0.0.1", 200),
        ("http://evil.example/v1/models", "localhost", 403),
        ("http://user@localhost/v1/models", "localhost", 403),
        ("http:///v1/models", "localhost", 403),
        ("ftp://localhost/v1/models", "localhost", 404),
    ],
)
def test_a_whole_url_as_the_target_is_answered_as_its_path_of_its_host(open_server, target, host, status):
    seen, answer = asked(open_server, target.format(port=open_server.port), host)
    assert seen == status
    assert "'a b'" in answer if "a%20b" in target else "a b" not in answer


def test_a_whole_url_as_the_target_opens_nothing_without_the_key(locked):
    assert asked(locked, "http://localhost/v1/models", "localhost")[0] == 401
    assert asked(locked, "http://localhost/health", "localhost")[0] == 200


def test_pages_of_other_origins_are_refused_and_the_own_page_is_not(open_server):
    http = open_server.http()
    own = f"http://127.0.0.1:{open_server.port}"
    assert http.get("/v1/models", headers={"Origin": own}).status_code == 200
    for origin in (
        "null",
        "http://evil.example",
        f"http://localhost:{open_server.port}",
        "http://127.0.0.1:1",
        "http://[",
    ):
        response = http.post("/v1/completions", json={"prompt": "x"}, headers={"Origin": origin})
        assert response.status_code == 403 and response.json()["error"]["code"] == "origin_not_allowed"
        assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None])
def test_a_body_that_is_not_declared_json_is_refused(open_server, kind):
    headers = {"Content-Type": kind} if kind else {}
    response = open_server.http().post("/v1/completions", content=b'{"prompt": "x"}', headers=headers)
    assert response.status_code == 415 and response.json()["error"]["type"] == "invalid_request_error"


def test_a_large_body_is_refused_whether_its_length_is_told_or_not(open_server):
    body = b'{"prompt": "' + b"x" * 3000 + b'"}'
    headers = {"Content-Type": "application/json"}
    for content in (body, iter([body[:1500], body[1500:]])):
        response = open_server.http().post("/v1/completions", content=content, headers=headers)
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "request_too_large"


def test_a_body_that_trickles_is_cut_off(open_server):
    head = (
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"
    )
    with socket.create_connection(("127.0.0.1", open_server.port)) as client:
        client.sendall(head + b"\r\n{")
        client.settimeout(20)  # far below the hundred bytes' arrival, which is never
        assert client.recv(1000).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/v1/chat", 404),
        ("GET", "/v1/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("GET", "/page/index.html", 404),
        ("GET", "/../app.py", 404),
        ("GET", "/%2e%2e/app.py", 404),
        ("GET", "/..%2fapp.py", 404),
    ],
)
def test_the_frameworks_own_errors_have_openais_shape(open_server, method, path, status):
    response = open_server.http().request(method, path)
    assert response.status_code == status
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    assert response.headers["x-request-id"].startswith("req_")


def test_health_is_open_and_ids_differ(open_server):
    http = open_server.http()
    first, second = http.get("/health"), http.get("/health")
    assert first.json() == {"status": "ok"}
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


def test_the_page_comes_with_its_policy_and_types(open_server):
    http = open_server.http()
    index = http.get("/")
    assert index.status_code == 200 and index.headers["content-type"].startswith("text/html")
    policy = index.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';") and "frame-ancestors 'none'" in policy
    assert index.headers["x-content-type-options"] == "nosniff"
    assert http.get("/index.html").content == index.content
    script = http.get("/app.js")
    assert script.headers["content-type"].startswith("text/javascript")
    again = http.get("/app.js", headers={"If-None-Match": script.headers["etag"]})
    assert again.status_code == 304 and not again.content


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.5", "example.com"])
def test_an_open_address_without_a_key_is_refused(host):
    with pytest.raises(OctavoError, match="allow-no-key"):
        ServerSettings(host=host)
    assert ServerSettings(host=host, allow_no_key=True)
    assert ServerSettings(host=host, api_key=KEY)
    assert KEY not in repr(ServerSettings(host=host, api_key=KEY))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1", "[::1]"])
def test_this_machines_own_addresses_need_no_key(host):
    assert ServerSettings(host=host)


def test_pages_of_an_origin_that_is_let_in_may_ask_and_read_and_no_others(start_server):
    friend = "https://example.org"
    running = start_server([ScriptedModel(["x"])], cors_origins=(friend,), api_key="sesame")
    http = running.http()
    asks = {
        "Origin": friend,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type, x-stainless-os",
        "Access-Control-Request-Private-Network": "true",
    }
    allowed = http.request("OPTIONS", "/v1/completions", headers=asks)
    assert allowed.status_code == 204
    assert allowed.headers["access-control-allow-origin"] == friend
    assert allowed.headers["access-control-allow-headers"] == asks["Access-Control-Request-Headers"]
    assert allowed.headers["access-control-allow-private-network"] == "true"
    assert "access-control-allow-credentials" not in allowed.headers
    key = {"Authorization": "Bearer sesame"}
    answer = http.post("/v1/completions", json={"prompt": "x"}, headers={"Origin": friend, **key})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, friend)
    refused = http.post("/v1/completions", json={"prompt": "x"}, headers={"Origin": friend})
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, friend)
    for origin in ("https://example.org.evil.net", "http://example.org", "null"):
        stranger = http.request("OPTIONS", "/v1/completions", headers={**asks, "Origin": origin})
        assert stranger.status_code == 403 and "access-control-allow-origin" not in stranger.headers


@pytest.mark.parametrize("origin", ["*", "example.org", "https://example.org/path", "https://*.example.org", "null"])
def test_an_origin_that_is_none_is_refused_at_the_start(origin):
    with pytest.raises(OctavoError, match="is no origin"):
        ServerSettings(cors_origins=(origin,))
