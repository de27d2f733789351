"""A session from Python, with nothing generated: the daemon tells its own types by reflection.

pip install grpcio grpcio-reflection
python examples/client.py [HOST:PORT] [URL]
"""

import sys
from typing import Any

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

# Replies may be as large as the daemon's own message limit; gRPC's default is 4 MiB.
MESSAGE_BYTES = 64 << 20


class Pagebox:
    """The two services of a daemon, by name."""

    def __init__(self, address: str) -> None:
        options = [("grpc.max_receive_message_length", MESSAGE_BYTES)]
        self.channel = grpc.insecure_channel(address, options=options)
        self.pool = DescriptorPool(ProtoReflectionDescriptorDatabase(self.channel))

    def call(self, method: str, **request: Any) -> Any:
        """Calls `SessionService/CreateSession` and the like; a stream is an iterator."""
        service, name = method.split("/")
        found = self.pool.FindServiceByName(f"pagebox.v1.{service}").FindMethodByName(name)
        kind = self.channel.unary_stream if found.server_streaming else self.channel.unary_unary
        stub = kind(
            f"/pagebox.v1.{service}/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(found.output_type).FromString,
        )
        return stub(GetMessageClass(found.input_type)(**request))


def main() -> None:
    address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7370"
    url = sys.argv[2] if len(sys.argv) > 2 else "https://example.com"
    pagebox = Pagebox(address)
    session = pagebox.call("SessionService/CreateSession", options={"start_url": url}).session
    print("session", session.id, "on", session.title)
    try:
        for language, code in [
            ("LANGUAGE_NODE", "const heading = await page.textContent('h1'); heading"),
            ("LANGUAGE_PYTHON", "await page.title()"),
            ("LANGUAGE_NODE", "heading.nowhere.to.be.found"),
        ]:
            options = {"session_id": session.id, "language": language, "code": code}
            reply = pagebox.call("ExecutionService/Execute", options=options)
            print(language, reply.success, reply.exit_code, reply.result or reply.error.message)

        # The same as a stream: output comes while the code runs, as bytes.
        code = "for i in 1 2 3; do echo $i; sleep 0.2; done; exit 4"
        options = {"session_id": session.id, "language": "LANGUAGE_BASH", "code": code}
        for event in pagebox.call("ExecutionService/ExecuteStream", options=options):
            match event.WhichOneof("event"):
                case "stdout":
                    print("stdout", event.stdout)
                case "finished":
                    print("exit code", event.finished.exit_code)
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {error.details()}")
    finally:
        pagebox.call("SessionService/StopSession", session_id=session.id)


if __name__ == "__main__":
    main()
