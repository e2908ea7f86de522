"""LitServe with ONNX Runtime. Run: python -m bench.contenders.lit"""

import os

import litserve

from bench.contenders import onnx, pixels


class Api(litserve.LitAPI):
    """Decode, predict and encode, as LitServe wants them."""

    def setup(self, device):
        """Load the network."""
        self.network = onnx.Network()

    def decode_request(self, request):
        """Return the pixels of an upload."""
        return pixels.from_file(request["file"].file)

    def predict(self, batch):
        """Return the probabilities."""
        return self.network(batch)

    def encode_response(self, output):
        """Return the answer."""
        return pixels.answer(output[0])


if __name__ == "__main__":
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=1, timeout=60)
    server.run(host="127.0.0.1", port=int(os.environ["PORT"]), num_api_servers=1, generate_client_file=False,
               log_level="warning")
