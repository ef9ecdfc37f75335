"""Files that a registry names, weights and paper pictures: fetched, checked, kept in a folder of ours."""
