# The Spack recipe of spectrace. In a repository of your own:
#   spack repo create ~/spack-local local
#   mkdir -p ~/spack-local/packages/spectrace && cp package.py ~/spack-local/packages/spectrace/    (where spack repo create says)
#   spack repo add ~/spack-local && spack dev-build spectrace@main      (in the checkout)
# The dependencies are the rows of tools/lib/dependencies.tsv: tests/python/test_install.py compares them.
from spack.package import *


class Spectrace(CMakePackage):
    """Measures transformer language models from the inside: spectra of their weights, attention, sheaf Laplacians
    and the residual stream, over MPI ranks, into HDF5."""

    license("Apache-2.0")

    version("main")

    variant("tests", default=False, description="Build the tests")
    variant("cuda", default=False, description="The GPU path: libtorch with CUDA, and NCCL")

    depends_on("c", type="build")
    depends_on("cxx", type="build")
    depends_on("cmake@3.21:", type="build")
    depends_on("ninja", type="build")

    depends_on("mpi")
    depends_on("hdf5@1.10:+hl")
    depends_on("fmt")
    depends_on("spdlog+fmt_external")
    depends_on("nlohmann-json@3.10:")
    depends_on("valijson")
    depends_on("cli11@2.1:")
    depends_on("openssl")
    depends_on("xxhash")
    depends_on("pcre2")
    depends_on("utf8proc")
    depends_on("googletest", when="+tests")

    # libtorch is a part of the Python package.
    depends_on("python@3.11:")
    depends_on("py-torch@2.10:")
    depends_on("py-torch~cuda", when="~cuda")
    depends_on("py-torch+cuda", when="+cuda")
    depends_on("cuda", when="+cuda")
    depends_on("nccl", when="+cuda")

    conflicts("%gcc@:11", msg="spectrace is C++20, exercised with g++ 12")

    generator("ninja")

    def cmake_args(self):
        torch = join_path(self.spec["py-torch"].prefix, self.spec["python"].package.platlib, "torch")
        return [
            self.define("SPECTRACE_TORCH_DIR", torch),
            self.define("SPECTRACE_INSTALL_LIBTORCH", False),
            self.define_from_variant("SPECTRACE_TESTS", "tests"),
            self.define_from_variant("SPECTRACE_CUDA", "cuda"),
            # Warnings of other compilers than the project's own are not this build's business.
            self.define("SPECTRACE_WERROR", False),
        ]
