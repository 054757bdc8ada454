"""Images and label maps on disk: NIfTI, DICOM series and segmentations, stacks of pictures, masks a class; written as NIfTI."""
