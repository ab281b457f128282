"""At home in other libraries: one module per framework, imported by whoever uses that framework.

`models` reads their networks; `torch` and `jax` compute inside them; `torchattacks`, `foolbox` and `art` take the place
of attacks there; `dask` attacks arrays that lie on many machines.
"""
