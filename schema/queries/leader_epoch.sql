SELECT epoch FROM _promkeep.leader
