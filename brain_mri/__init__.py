"""What `pip install .` makes importable: the typed client, and beside it all that the command brain-mri needs.

    from brain_mri import Classifier

    Classifier("127.0.0.1:8000").classify(open("scan.jpg", "rb").read(), model="custom")

setup.py puts client, core, imaging, serving and webapp into this package; in a checkout they are folders beside it.
"""

from client import Classifier, ClientError, Explanation, Prediction

__all__ = ["Classifier", "ClientError", "Explanation", "Prediction"]
