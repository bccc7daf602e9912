"""`make parity`: small nnU-Net results folders of every kind, exported and held to nnUNetPredictor."""
