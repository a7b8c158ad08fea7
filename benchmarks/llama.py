"""llama.cpp's own server (xllamacpp) on the embedded base model's weights, as a peer.

python benchmarks/llama.py FILE.gguf --port 8080 [--slots 32] [--context 1024]
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from cyclopts import App

from pege.models.causal import base_gguf


def start(file: Path, n_slots: int, n_context: int, port: int | None = None, dtype: str | None = None) -> Any:
    """Start the server in this process: requests up to ``n_slots`` share a batch, each with ``n_context`` tokens.

    Keys and values have the dtype that is named; llama.cpp's own choice is float16.
    """
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.n_parallel, params.n_ctx = str(file), n_slots, n_slots * n_context
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = os.cpu_count() or 1
    params.warmup = True
    if dtype is not None:
        kinds = {"float32": xllamacpp.ggml_type.GGML_TYPE_F32, "bfloat16": xllamacpp.ggml_type.GGML_TYPE_BF16}
        params.cache_type_k = params.cache_type_v = kinds[dtype]
    if port is not None:
        params.hostnames, params.port = ["127.0.0.1"], port
    return xllamacpp.Server(params)


def widened(folder: Path, dtype: str) -> Path:
    """Write the base package's weights as a GGUF file of float32 or bfloat16: the numbers that our model has."""
    import gguf

    reader = gguf.GGUFReader(base_gguf())
    target = folder / f"base-{dtype}.gguf"
    kind = gguf.GGMLQuantizationType.F32 if dtype == "float32" else gguf.GGMLQuantizationType.BF16
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, architecture)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        own = kind if values.ndim > 1 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(tensor.name, gguf.quants.quantize(values, own), raw_dtype=own)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


app = App(help="llama.cpp's server.", default_parameter=None)


@app.default
def main(file: Path, /, *, port: int, slots: int = 32, context: int = 1024) -> None:
    """Serve until the process is stopped."""
    server = start(file, slots, context, port)
    print(server.listening_address, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    app()
