from setuptools import setup

setup(
    name="@NAME@",
    version="@VERSION@",
    description="Lab fixture standing in for @NAME@",
    packages=["@MODULE@"],
    zip_safe=False,
)
