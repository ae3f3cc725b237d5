UPDATE _promkeep.leader SET epoch = epoch + 1 RETURNING epoch
