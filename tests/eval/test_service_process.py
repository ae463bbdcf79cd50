"""The service as a child process: it comes up, it goes away, and it says why when it cannot."""

import os
import signal
import subprocess
import sys
import time

import httpx
import pytest

from sightline_eval.service_process import ServiceStartError, running_service

FAKES = ("--similarity", "fake", "--detector", "fake", "--perplexity", "none", "--profile", "none")


def answers(url):
    try:
        return httpx.get(f"{url}/healthz", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


def gone(url):
    deadline = time.monotonic() + 20
    while answers(url) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not answers(url)


def test_the_service_is_ready_inside_the_block_and_gone_after_a_failure_in_it():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def fail_inside():
        with running_service(FAKES) as service:
            service.await_ready()
            seen.append((service.url, httpx.get(f"{service.url}/readyz").status_code))
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail_inside()
    ((url, status),) = seen
    assert status == 200
    assert gone(url)
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_end_of_the_log_says_why_it_did_not_start():
    with (
        pytest.raises(ServiceStartError, match=r"(?s)ended with code .*its log ends:.*nowhere"),
        running_service((*FAKES[:-1], "/nowhere.json")) as service,
    ):
        service.await_ready()


def test_a_service_that_takes_too_long_is_given_up():
    with (
        pytest.raises(ServiceStartError, match="was not ready after 0 s"),
        running_service(FAKES) as service,
    ):
        service.await_ready(deadline_s=0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_service_goes_down_with_a_process_that_is_told_to_stop(number):
    script = (
        "import signal, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell may ignore it
        "from sightline_eval.service_process import running_service\n"
        f"with running_service({FAKES!r}) as service:\n"
        "    service.await_ready()\n"
        "    print(service.url, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        url = process.stdout.readline().strip()
        assert answers(url)
        os.kill(process.pid, number)
        assert process.wait(20) != 0
    assert gone(url)
