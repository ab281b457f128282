"""The benchmark suite: this library beside other ways to run the same attacks, in one run, with checked answers.

`pyfirstorder bench` runs it.  A workload (`workloads`) is an attack on given data; a contender (`contenders`) is a way
to run it; `suite` times all contenders in turn and checks what each returns; `report` writes table, JSON and picture.
"""
