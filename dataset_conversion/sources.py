"""The public datasets the converter can read; a new one is a module beside this one and a line here."""

from nnunet_partial.dataset_conversion import btcv, kits19, lits, msd, tcia_pancreas

SOURCES = {module.SOURCE.key: module.SOURCE for module in (btcv, kits19, lits, msd, tcia_pancreas)}
