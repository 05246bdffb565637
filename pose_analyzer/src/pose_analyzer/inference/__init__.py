"""From pictures to keypoints: letterboxing, decoding, weights, and the libraries that run them."""
