//! Training data: IDX files, download, generated digits and the order of examples.
