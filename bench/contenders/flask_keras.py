"""The usual way: Flask and model.predict, as tutorials deploy it. Run: gunicorn bench.contenders.flask_keras:app"""

import os

import keras
from flask import Flask, jsonify, request

import stages.layers.normalization  # noqa: F401 - Keras finds the layer of the file by it
from bench.contenders import pixels

app = Flask(__name__)
network = keras.models.load_model(os.environ["BENCH_KERAS"])


@app.post("/predict")
def predict():
    """Classify the upload."""
    image = pixels.from_file(request.files["file"])
    return jsonify(pixels.answer(network.predict(image, verbose=0)[0]))
