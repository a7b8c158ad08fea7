"""``pege study`` as it is called."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import httpx
import pytest
from servers import served
from study_cases import write_design

from pege.cli import main


def run(arguments, capsys):
    code = 0
    try:
        main([str(a) for a in arguments])
    except SystemExit as e:
        code = int(e.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def test_create_serve_invite_and_manage(tmp_path, capsys, caplog):
    design = write_design(tmp_path)
    code, out, _ = run(["study", "create", design], capsys)
    assert (code, out.strip()) == (0, str(tmp_path / "small"))
    assert "12 dialogs to rate" in caplog.text
    folder = tmp_path / "small"
    assert run(["study", "results", folder, "--json"], capsys)[0] == 2  # nothing is rated yet
    with served(folder):
        code, out, _ = run(["study", "invite", folder, "--raters", 3, "--json"], capsys)
        links = [json.loads(line)["link"] for line in out.splitlines()]
        assert len(set(links)) == 3
        for link in links:  # with the port that is served
            assert httpx.get(link, follow_redirects=False).status_code == 303
        out = run(["study", "invite", folder, "--raters", 1, "--base-url", "https://x.example"], capsys)[1]
        assert out.startswith("r00004\thttps://x.example/r/")
        printed = re.search(r"owner: (\S+)", (tmp_path / "serve.log").read_text())[1]
        assert httpx.get(printed).status_code == 303
        new = run(["study", "manage", folder, "owner", "renew"], capsys)[1].removeprefix("owner: ").strip()
        assert httpx.get(printed).status_code == 410
        assert httpx.get(new).status_code == 303
        assert run(["study", "manage", folder, "owner", "revoke"], capsys)[:2] == (0, "")
        assert httpx.get(new).status_code == 410
    code, out, _ = run(["study", "raters", folder], capsys)
    assert out.count("invited") == 4
    assert run(["study", "manage", folder, "r00001", "exclude"], capsys)[0] == 2
    assert run(["study", "manage", folder, "r00001", "exclude", "--why", "test"], capsys)[0] == 0
    assert run(["study", "manage", folder, "r00002", "delete"], capsys)[1] == "0 answers deleted\n"
    code, out, _ = run(["study", "manage", folder, "r00003", "renew", "--base-url", "https://x.example"], capsys)
    assert out.startswith("r00003\thttps://x.example/r/")
    code, out, _ = run(["study", "raters", folder, "--json"], capsys)
    assert [json.loads(line)["state"] for line in out.splitlines()] == ["excluded", "invited", "invited"]


def test_agreement_prints_one_object(tmp_path, capsys):
    (tmp_path / "r.csv").write_text("item,rater,metric,value\na,x,m,1\na,y,m,1\nb,x,m,0\nb,y,m,1\nb,z,k,5\n")
    code, out, _ = run(["study", "agreement", tmp_path / "r.csv", "--json"], capsys)
    found = json.loads(out)
    assert code == 0
    # m: p_a = 1/2; p_1 = 3/4: p_e = 5/8, kappa = -1/3; AC1: p_e = 3/8, (1/2 - 3/8) / (5/8) = 1/5
    assert found["m"]["fleiss_kappa"] == pytest.approx(-1 / 3)
    assert found["m"]["gwet_ac1"] == pytest.approx(1 / 5)
    assert (found["m"]["n_items"], found["m"]["n_raters"]) == (2, 2)
    assert found["k"]["fleiss_kappa"] is None
    assert "Fleiss' kappa" in run(["study", "agreement", tmp_path / "r.csv"], capsys)[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["create", "no.yaml"], "no.yaml: no such file"),
        (["serve", "."], "holds no study"),
        (["invite", ".", "--raters", "0"], "--raters"),
        (["agreement", "no.csv"], "no.csv: cannot be read"),
        (["invite", "STUDY", "--raters", "1", "--base-url", "nonsense"], "is no address"),
        (["invite", "STUDY", "--raters", "1", "--base-url", "https://x.example/study"], "without a path"),
        (["invite", "STUDY", "--raters", "1", "--base-url", "http://x:99999"], "is no address"),
        (["manage", "STUDY", "r9", "delete"], "no rater is called 'r9'"),
        (["manage", "STUDY", "owner", "delete"], "the owner rates nothing"),
        (["serve", "STUDY", "--database", "mysql://x/y"], "no database of ours"),
        (["serve", "STUDY", "--host", "203.0.113.7"], "--base-url"),
        (["serve", "STUDY", "--host", "203.0.113.7", "--base-url", "https://x.example"], "cannot be bound"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "STUDY" in arguments:
        run(["study", "create", write_design(tmp_path), "--output", "made"], capsys)
    code, out, err = run(["study", *(a.replace("STUDY", "made") for a in arguments)], capsys)
    assert code == 2
    assert message in err
    assert out == ""


def test_the_help_is_there_without_any_web_package():
    code = """if True:
        import sys
        from pege.cli import main
        main(["study", "--help"])
        loaded = [m for m in ("fastapi", "sqlalchemy", "uvicorn", "torch", "scipy") if m in sys.modules]
        assert not loaded, loaded
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr
    assert "agreement" in done.stdout
