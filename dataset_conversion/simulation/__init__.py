"""Datasets with missing labels out of annotated ones: `annotated_dataset` → `draw`, `mix` → `plan` → `folder` → `simulate`."""
