"""The better usual way: Flask and ONNX Runtime. Run: gunicorn bench.contenders.flask_onnx:app"""

from flask import Flask, jsonify, request

from bench.contenders import onnx, pixels

app = Flask(__name__)
network = onnx.Network()


@app.post("/predict")
def predict():
    """Classify the upload."""
    return jsonify(pixels.answer(network(pixels.from_file(request.files["file"]))[0]))
