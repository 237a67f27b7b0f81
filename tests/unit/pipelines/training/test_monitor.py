from pipelines.cluster.resources import Cluster, Node, Share
from pipelines.training.monitor import want_of_room


def test_the_user_is_told_of_lost_nodes_that_training_waits_for():
    share = Share(workers=4, at_least=2, cpus=1, gpus=0, threads=1)
    assert want_of_room(Cluster((Node(2, 0),)), share) == []
    (note,) = want_of_room(Cluster((Node(1, 0),)), share)
    assert "no longer room for 2 to 4 workers with 1 CPU" in note["message"]
    assert "has 1 CPU and 0 GPUs" in note["message"]
