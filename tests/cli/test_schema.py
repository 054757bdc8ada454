"""`nnunet_partial schema`, and the copy in docs/."""

import json
from pathlib import Path

from nnunet_partial.labels import manifest_json_schema

DOCS = Path(__file__).parents[2] / "docs"


def test_prints_the_schema(cli):
    status, out, _ = cli("schema")
    assert status == 0
    assert json.loads(out) == manifest_json_schema()


def test_the_copy_in_docs_is_current(cli, tmp_path):
    assert cli("schema", "-o", tmp_path / "schema.json")[0] == 0
    committed = DOCS / "label_manifest.schema.json"
    assert json.loads(committed.read_text(encoding="utf-8")) == json.loads(
        (tmp_path / "schema.json").read_text(encoding="utf-8")
    ), f"run: nnunet_partial schema -o {committed}"
