"""BentoML with ONNX Runtime. Run: bentoml serve bench.contenders.bento:Classifier"""

from typing import Any

import bentoml
from PIL import Image

from bench.contenders import onnx, pixels


@bentoml.service(workers=1, traffic={"timeout": 60})
class Classifier:
    """The network as a BentoML service."""

    def __init__(self):
        self.network = onnx.Network()

    @bentoml.api
    def predict(self, file: Image.Image) -> dict[str, Any]:
        """Classify the upload."""
        return pixels.answer(self.network(pixels.from_image(file))[0])
