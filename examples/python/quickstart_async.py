"""What quickstart.py does, with asyncio: many calls at a time on one thread.

    python quickstart_async.py [HOST:PORT]
"""

import asyncio
import sys

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from monet.v1 import generation_pb2 as monet
from monet.v1 import generation_pb2_grpc as monet_grpc

from quickstart import OPTIONS, PROMPT, request


async def generate(stub):
    response = await stub.Generate(request(16))
    print("generate:", PROMPT + response.completions[0].text)


async def stream(stub):
    print("stream:", PROMPT, end="")
    async for message in stub.GenerateStream(monet.GenerateStreamRequest(request=request(16))):
        event = message.WhichOneof("event")
        if event == "delta":
            print(message.delta.text, end="", flush=True)
        elif event == "finish":
            reason = monet.FinishReason.Name(message.finish.finish_reason)
            print(f"\nfinish: {reason}, {message.finish.usage.completion_tokens} tokens")


async def policies(stub):
    names = ["no-kjv", "no-python"]
    # Both run in one batch of the server, each under its own mask.
    responses = await asyncio.gather(
        *(stub.Generate(request(16, mask={"policies": [name]})) for name in names))
    for response in responses:
        applied = response.header.mask.policies[0]
        print(f"policy {applied.name}@{applied.version}:", PROMPT + response.completions[0].text)


async def cancel(stub):
    call = stub.GenerateStream(monet.GenerateStreamRequest(request=request(400)))
    tokens = 0
    async for message in call:
        tokens += len(message.delta.token_ids)
        if tokens >= 5:
            call.cancel()  # so does cancelling the task that reads
            break
    print(f"cancel: {(await call.code()).name} after {tokens} tokens")


async def deadline(stub):
    try:
        await stub.Generate(request(400), timeout=0.02)  # seconds
    except grpc.aio.AioRpcError as error:
        print("deadline:", error.code().name)


async def error_details(stub):
    try:
        await stub.Generate(request(16, mask={"policies": ["no-such"]}))
    except grpc.aio.AioRpcError as error:
        print("error:", error.code().name, error.details())
        for detail in rpc_status.from_call(error).details:
            info = error_details_pb2.ErrorInfo()
            bad_request = error_details_pb2.BadRequest()
            if detail.Unpack(info):
                print("reason:", info.reason)
            elif detail.Unpack(bad_request):
                print("field:", bad_request.field_violations[0].field)


async def main():
    address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051"
    async with grpc.aio.insecure_channel(address, OPTIONS) as channel:
        stub = monet_grpc.GenerationServiceStub(channel)
        await generate(stub)
        await stream(stub)
        await policies(stub)
        await cancel(stub)
        await deadline(stub)
        await error_details(stub)


if __name__ == "__main__":
    asyncio.run(main())
