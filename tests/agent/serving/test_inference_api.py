"""The server as its clients see it: unmodified tritonclient, and clients that do all wrong."""

from __future__ import annotations

import http.client
import socket
import time
from typing import Any

import msgspec
import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from agent.serving.protocol import inference_socket
from agent.serving.sockets import connect_unix
from tests.agent.serving.tiny_models import SAMPLES, WEIGHTS, Running

GOOD = {
    "inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}],
}
INFER = "/v2/models/tiny/infer"


def client(running: Running) -> triton.InferenceServerClient:
    return triton.InferenceServerClient(running.url)


def tensor(x: np.ndarray[Any, Any], binary: bool) -> triton.InferInput:
    found = triton.InferInput("x", list(x.shape), "FP32")
    found.set_data_from_numpy(x, binary_data=binary)
    return found


def ask(
    running: Running,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, msgspec.json.decode(response.read())
    finally:
        connection.close()


def test_tritonclient_finds_the_server_live_and_ready(running: Running) -> None:
    found = client(running)
    assert found.is_server_live()
    assert found.is_server_ready()
    assert found.is_model_ready("tiny")
    assert found.is_model_ready("tiny", "1")
    assert not found.is_model_ready("tiny", "2")
    assert not found.is_model_ready("other")


def test_tritonclient_reads_the_metadata(running: Running) -> None:
    found = client(running)
    assert found.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    assert found.get_model_metadata("tiny", "1") == {
        "name": "tiny",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
    }


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_tritonclient_infers_with_json_and_with_raw_tensors(
    running: Running, binary_in: bool, binary_out: bool | None
) -> None:
    outputs = None
    if binary_out is not None:
        outputs = [triton.InferRequestedOutput("y", binary_data=binary_out)]
    answer = client(running).infer(
        "tiny", [tensor(SAMPLES, binary_in)], "1", outputs=outputs, request_id="r-9"
    )
    np.testing.assert_allclose(answer.as_numpy("y"), SAMPLES @ WEIGHTS, rtol=1e-6)
    found = answer.get_response()
    assert (found["model_name"], found["model_version"], found["id"]) == ("tiny", "1", "r-9")


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_tritonclient_may_compress_its_requests(running: Running, algorithm: str) -> None:
    answer = client(running).infer(
        "tiny",
        [tensor(SAMPLES, True)],
        request_compression_algorithm=algorithm,
        response_compression_algorithm="gzip",
        parameters={"priority_hint": 3},
    )
    np.testing.assert_allclose(answer.as_numpy("y"), SAMPLES @ WEIGHTS, rtol=1e-6)


def test_tritonclient_infers_from_many_connections_at_once(running: Running) -> None:
    many = triton.InferenceServerClient(running.url, concurrency=4)
    asked = [many.async_infer("tiny", [tensor(SAMPLES[i : i + 1], True)]) for i in range(32)]
    for i, answer in enumerate(asked):
        expected = SAMPLES[i : i + 1] @ WEIGHTS
        np.testing.assert_allclose(answer.get_result().as_numpy("y"), expected, rtol=1e-5)


def test_tritonclient_is_told_why(running: Running) -> None:
    wrong = triton.InferInput("x", [1, 5], "FP32")
    wrong.set_data_from_numpy(np.zeros((1, 5), np.float32))
    with pytest.raises(InferenceServerException, match="the model takes") as refused:
        client(running).infer("tiny", [wrong])
    assert refused.value.status() == "400"


def test_the_unix_socket_answers_the_same_protocol(running: Running) -> None:
    with connect_unix(inference_socket(running.log.parent), 5.0) as connection:
        connection.sendall(
            b"GET /v2/models/tiny HTTP/1.1\r\nhost: any\r\nconnection: close\r\n\r\n"
        )
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 200")
    assert b'"versions":["1"]' in answer


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v3", 404),
        ("GET", "/v2/nothing", 404),
        ("GET", "/v2/models", 404),
        ("GET", "/v2/models/other", 404),
        ("GET", "/v2/models/tiny/versions", 404),
        ("GET", "/v2/models/tiny/versions/2", 404),
        ("GET", "/v2/models/tiny/versions/1/unload", 404),
        ("GET", "/v2/models/tiny/versions/1/ready/x", 404),
        ("GET", "/v2/models/tiny/config", 404),
        ("GET", "/v2/models/..%2f..%2fetc", 404),
        ("GET", INFER, 405),
        ("POST", "/v2", 405),
        ("POST", "/v2/models/tiny", 405),
        ("POST", "/v2/models/other/infer", 404),
        ("POST", "/v2/models/tiny/versions/9/infer", 404),
        ("POST", INFER, 400),
    ],
)
def test_what_is_not_there_is_named_in_json(
    running: Running, method: str, path: str, status: int
) -> None:
    found, body = ask(running, method, path, b"" if method == "POST" else None)
    assert found == status
    assert list(body) == ["error"]


def test_a_body_over_the_limit_is_413(running: Running) -> None:
    status, body = ask(running, "POST", INFER, b"a" * 70_000)
    assert status == 413
    assert "65536" in body["error"]


def test_a_chunked_body_over_the_limit_is_413(running: Running) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
    connection.request("POST", INFER, (b"a" * 10_000 for _ in range(7)), encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "localhost:1", "Origin": "http://localhost"}, 200),
        ({"Content-Encoding": "br"}, 415),
        ({"Inference-Header-Content-Length": "999999"}, 400),
        ({"Inference-Header-Content-Length": "-3"}, 400),
    ],
)
def test_headers_are_checked(running: Running, headers: dict[str, str], status: int) -> None:
    found, _ = ask(running, "POST", INFER, msgspec.json.encode(GOOD), headers)
    assert found == status


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\xff" * 50,
        b"GET\r\n\r\n",
        b"GET /v2 HTTP/9.9\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"POST " + INFER.encode() + b" HTTP/1.1\r\nhost: localhost\r\ncontent-length: x\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\n" + b"a: b\r\n" * 200_000,
        b"GET /v2 HTTP/1.1\r\na: " + b"b" * 1_000_000,
        b"GET /" + b"b" * 1_000_000,
    ],
)
def test_no_bytes_on_the_port_end_the_server(running: Running, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
        answer = b""
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: connection.recv(65_536), b""))
        except OSError:
            pass  # the server had seen enough, and closed
    assert b"Traceback" not in answer
    assert client(running).is_server_ready()


def test_a_body_cut_short_leaves_the_server_well(running: Running) -> None:
    head = f"POST {INFER} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 500\r\n\r\n"
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
        connection.sendall(head.encode() + b"{")
    assert ask(running, "POST", INFER, msgspec.json.encode(GOOD))[0] == 200


def test_requests_that_do_not_fit_the_model_are_counted_as_refused(running: Running) -> None:
    before = running.client.counters().families["tiny"]
    ask(running, "POST", INFER, b"{}")
    after = running.client.counters().families["tiny"]
    assert after.refused == before.refused + 1
    assert after.inferences == before.inferences


def test_the_log_holds_no_traceback(running: Running) -> None:
    time.sleep(0.05)
    assert "Traceback" not in running.log.read_text()
