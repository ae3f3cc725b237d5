-- New label sets lie in the list of pending entries of the index of pairs, which takes them in bulk here.
SELECT gin_clean_pending_list('_promkeep.label_set_labels')
