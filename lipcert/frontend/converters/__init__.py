"""One file per family of ONNX ops; each function reads one op, for the opsets that it names."""
