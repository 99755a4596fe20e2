"""How a reader turns a model's output into a segmentation fit for use: timed, compared, and reported as a study.

    session = CorrectionSession(segmentation, folder, Reading(reader="R1", case="case01"))
    session.start()
    session.edited("tumour_1", voxels_added=120)
    session.finish(corrected_labels)

`timing` says which moment counts as what, `journal` how a session survives a crash, `comparison` what changed,
`study` who reads what and when, `summary` and `page` what a study found. Nothing here knows Slicer.
"""
