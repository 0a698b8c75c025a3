import ctypes
import os
import sys

import bentoml


@bentoml.service
class System:
    @bentoml.api
    def greet(self, name: str) -> str:
        return f"{os.environ['GREETING']}, {name}{os.environ['MARK']}"

    @bentoml.api
    def python(self) -> str:
        return f"{sys.version_info[0]}.{sys.version_info[1]}"

    @bentoml.api
    def sodium(self) -> int:
        return ctypes.CDLL("libsodium.so.23").sodium_init()
