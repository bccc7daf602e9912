"""`make parity`: small nnU-Net results folders of every supported kind, exported and held to nnUNetPredictor."""
