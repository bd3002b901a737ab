"""What Open3D's window is drawn with: Vulkan, or OpenGL where Vulkan is only software."""

import ctypes
import sys
from dataclasses import dataclass
from pathlib import Path

#: `EngineInstance::SelectBackend(RenderingType)`; Python has no name for it.
_SELECT = "_ZN6open3d13visualization9rendering14EngineInstance13SelectBackendENS1_13RenderingTypeE"
_OPENGL = 1  # of RenderingType


@dataclass(frozen=True)
class Graphics:
    """What a window will be drawn with."""

    device: str  #: such as "llvmpipe (LLVM 15.0.6, 256 bits)"; empty where it is not told
    opengl: bool = False  #: otherwise what Open3D chooses: Vulkan

    @property
    def soft(self) -> bool:
        """Drawn by the processor."""
        words = ("llvmpipe", "lavapipe", "swiftshader", "softpipe")
        return any(word in self.device.lower() for word in words)


def draw_with_opengl() -> bool:
    """Make Open3D draw with OpenGL, before its application is initialised; False where this Open3D has no such choice.

    Software Vulkan takes longer for a window, and the one of Mesa 22 (lavapipe) loses 2 MB of every frame: it copies
    shaders and does not free them. Open3D after 0.20 makes this choice itself.
    """
    if not sys.platform.startswith("linux"):
        return False
    import open3d

    for library in Path(open3d.__file__).parent.glob("libOpen3D.so*"):
        select = getattr(ctypes.CDLL(str(library)), _SELECT, None)
        if select is not None:
            select.restype, select.argtypes = None, [ctypes.c_int]
            select(_OPENGL)
            return True
    return False
