"""Calls a monet-server: whole and streamed completions, a policy, cancellation, a deadline, errors.

    python quickstart.py [HOST:PORT]
"""

import json
import sys

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from monet.v1 import generation_pb2 as monet
from monet.v1 import generation_pb2_grpc as monet_grpc

PROMPT = "And the LORD"

# What gRPC does by itself: spread calls over all addresses of the name, and retry a refused call,
# but never one that has begun to answer.
SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [{
        "name": [{"service": "monet.v1.GenerationService"}, {"service": "monet.v1.ExpertService"},
                 {"service": "monet.v1.PolicyService"}],
        "retryPolicy": {
            "maxAttempts": 5,
            "initialBackoff": "1s",
            "maxBackoff": "10s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE"],
        },
    }],
}

OPTIONS = [
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    ("grpc.max_receive_message_length", 16 << 20),  # the largest response of a server
    ("grpc.keepalive_time_ms", 30_000),  # notices a dead connection, also during quiet calls
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
]


def request(max_tokens, **fields):
    return monet.GenerateRequest(
        prompt={"text": PROMPT}, sampling={"temperature": 0}, stopping={"max_tokens": max_tokens},
        **fields)


def generate(stub):
    response = stub.Generate(request(16))
    print("generate:", PROMPT + response.completions[0].text)


def stream(stub):
    print("stream:", PROMPT, end="")
    for message in stub.GenerateStream(monet.GenerateStreamRequest(request=request(16))):
        event = message.WhichOneof("event")
        if event == "delta":
            print(message.delta.text, end="", flush=True)
        elif event == "finish":
            reason = monet.FinishReason.Name(message.finish.finish_reason)
            print(f"\nfinish: {reason}, {message.finish.usage.completion_tokens} tokens")


def policy(stub):
    response = stub.Generate(request(16, mask={"policies": ["no-kjv"]}))
    applied = response.header.mask.policies[0]
    print(f"policy {applied.name}@{applied.version}:", PROMPT + response.completions[0].text)


def cancel(stub):
    call = stub.GenerateStream(monet.GenerateStreamRequest(request=request(400)))
    tokens = 0
    for message in call:
        tokens += len(message.delta.token_ids)
        if tokens >= 5:
            call.cancel()  # the server stops within a step and frees what the call held
            break
    print(f"cancel: {call.code().name} after {tokens} tokens")


def deadline(stub):
    try:
        stub.Generate(request(400), timeout=0.02)  # seconds; give every call of yours one
    except grpc.RpcError as error:
        print("deadline:", error.code().name)


def error_details(stub):
    try:
        stub.Generate(request(16, mask={"policies": ["no-such"]}))
    except grpc.RpcError as error:
        print("error:", error.code().name, error.details())
        for detail in rpc_status.from_call(error).details:
            info = error_details_pb2.ErrorInfo()
            bad_request = error_details_pb2.BadRequest()
            retry = error_details_pb2.RetryInfo()
            if detail.Unpack(info):
                print("reason:", info.reason)
            elif detail.Unpack(bad_request):
                print("field:", bad_request.field_violations[0].field)
            elif detail.Unpack(retry):
                print("retry after:", retry.retry_delay.ToTimedelta())


def main():
    address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051"
    with grpc.insecure_channel(address, OPTIONS) as channel:
        stub = monet_grpc.GenerationServiceStub(channel)
        generate(stub)
        stream(stub)
        policy(stub)
        cancel(stub)
        deadline(stub)
        error_details(stub)


if __name__ == "__main__":
    main()
