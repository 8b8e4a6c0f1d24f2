"""Train digits_sklearn.onnx: scikit-learn's MLPClassifier (64-48-32-10, ReLU), exported by skl2onnx."""

import sys

import numpy as np
import onnxruntime
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.neural_network import MLPClassifier
from training import HERE, SEED, describe, load_split, save, scaled

NAME = "digits_sklearn"
MINIMUM_ACCURACY = 0.95


def main() -> None:
    """Train, export and verify the network; unlike the others it gives a label and probabilities, not logits."""
    digits = load_split()
    images, labels = scaled(digits.train_images, (64,)).numpy(), digits.train_labels
    model = MLPClassifier((48, 32), alpha=0.5, max_iter=300, tol=1e-3, random_state=SEED)
    model.fit(images, labels)
    proto = convert_sklearn(
        model, NAME, initial_types=[("image", FloatTensorType([None, 64]))], options={"zipmap": False}
    )
    path = HERE / f"{NAME}.onnx"
    save(proto, path)
    tests = scaled(digits.test_images, (64,)).numpy()
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    label, probabilities = session.run(["label", "probabilities"], {"image": tests})
    np.testing.assert_allclose(probabilities, model.predict_proba(tests), rtol=1e-4, atol=1e-4)
    accuracy = float(np.mean(label == digits.test_labels))
    print(describe(path, sum(part.size for part in model.coefs_ + model.intercepts_), accuracy))
    if accuracy < MINIMUM_ACCURACY:
        sys.exit(f"{NAME}: test accuracy {accuracy:.2%} is below {MINIMUM_ACCURACY:.0%}")


if __name__ == "__main__":
    main()
