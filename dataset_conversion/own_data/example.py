"""A source file with everything it can say, as `nnunet_partial convert --example-source` prints it."""

EXAMPLE = """\
# hospital.yaml: your own data as a source. In every path {case} stands for the name of the case, * for any part of a name,
# **/ for any folders; paths are relative to `path:` in the pool file, by default to the folder of this file.

name: Hospital                      # prefix of the case identifiers (default: the name of this file)
licence: internal use only          # goes into the manifest as you write it
modality: CT                        # what nnU-Net calls the channel; anything but CT is normalised by its own mean and spread

images: "{case}/ct.nii.gz"          # .nii.gz, .nii, .nrrd, .mha, or the folder of a DICOM series: "{case}/dicom"

# One label map a case (NIfTI, NRRD, MetaImage, or DICOM-SEG: "{case}/seg.dcm") ...
label_maps: "{case}/labels.nii.gz"
labels:                             # id in the file: class (DICOM-SEG: segment number or segment label)
  1: liver
  2: [kidney_left, kidney_right]    # one id for classes that nobody told apart
  3: {class: liver_tumor, inside: liver}   # a tumor in an organ: `tumor: merge | separate | union` in the pool decides

# ... or one binary mask a class, in place of label_maps:
# masks:
#   liver: "{case}/masks/liver.nii.gz"
#   lesion: "{case}/masks/lesion.nii.gz"
# labels:                           # needed only where a mask's name is not its class
#   lesion: {class: liver_tumor, inside: liver}
# missing_mask: unannotated         # a mask that is missing was not looked for (default), or `absent`: looked for, not there

# ... or several annotators who drew the same cases, each with label maps or with masks (all of one kind) of his or her own.
# Without label_maps and masks above, a case gets what most of its annotators say.
# annotators:
#   anna: {label_maps: "anna/{case}.nii.gz"}
#   ben: {label_maps: "ben/{case}.nii.gz", annotated: [1, 3]}   # what ben looked for (default: `annotated` below)

# annotated: [1, 3]                 # which of the labels were looked for in every case (default: all); the others may be
                                    # drawn here and there, but where they are not, nobody can say that they are not there
# label_grid: headers               # the label's header says where it lies (default), or `arrays`: voxel by voxel, whatever
                                    # the header says, or `arrays_flipped_y`: the same after a flip of the second axis
"""
