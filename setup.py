"""Maps the three top-level folders a user reads first into the package, for wheels and for `pip install -e .` alike."""

from setuptools import find_packages, setup

STREET = ("trainers", "planners", "dataset_conversion")
STREET_PACKAGES = [package for name in STREET for package in (name, *(f"{name}.{room}" for room in find_packages(name)))]

setup(
    packages=[
        *find_packages(include=["nnunet_partial", "nnunet_partial.*"]),
        *(f"nnunet_partial.{name}" for name in STREET_PACKAGES),
    ],
    package_dir={f"nnunet_partial.{name}": name for name in STREET},
    # a plain folder, not a package: nnU-Net puts it on sys.path to find our trainers (variable nnUNet_extTrainer)
    package_data={
        "nnunet_partial": [
            "ext_trainers/*.py",
            "labels/*.json",
            "report/templates/*.html",
            "report/templates/*.css",
            "report/vendor/niivue/*",
        ],
        "nnunet_partial.dataset_conversion": ["presets/*.yaml"],
    },
)
