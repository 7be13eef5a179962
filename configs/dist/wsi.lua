-- Lmod module file. Put it, or a link to it, into MODULEPATH as wsi/@VERSION@.lua; only `folder` is to be edited.
-- LD_LIBRARY_PATH is neither needed nor heeded: the program looks into its own lib/ first.

local folder = "/opt/wsi-@VERSION@-linux-x86_64"

whatis("Name: wsi")
whatis("Version: @VERSION@")
whatis("Description: Whole-slide images: tiling, feature extraction, multiple-instance learning, statistics")
help("Whole slides in, trustworthy numbers out. `wsi --help` lists the verbs, `man wsi` describes them.")

prepend_path("PATH", folder)
prepend_path("MANPATH", pathJoin(folder, "man"))
append_path("MANPATH", "") -- and the system's own pages

-- GPUs: the folder `torch` of an installed PyTorch 2.11.0 with CUDA.
-- setenv("WSI_LIBTORCH", "/opt/pytorch-2.11.0/lib/python3.12/site-packages/torch")
