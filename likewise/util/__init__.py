"""Functions around embeddings, models and runs, under the name that the reference gave them."""

from likewise.hub import http_get, is_sentence_transformer_model, load_dir_path, load_file_path
from likewise.losses.base import function_name as similarity_fct_name
from likewise.losses.teacher_targets import check_teacher_targets
from likewise.maxsim import maxsim, maxsim_pairwise, mean_maxsim, mean_maxsim_pairwise
from likewise.model.requirements import check_version_requirements
from likewise.modules.device import best_device as get_device_name
from likewise.processes import get_rank, get_world_size, is_dist_initialized
from likewise.retrieval import (
    community_detection,
    information_retrieval,
    mine_hard_negatives,
    paraphrase_mining,
    paraphrase_mining_embeddings,
    quantize_embeddings,
    semantic_search,
    semantic_search_faiss,
    semantic_search_usearch,
)
from likewise.similarity import (
    SimilarityFunction,
    cos_sim,
    dot_score,
    euclidean_sim,
    manhattan_sim,
    pairwise_angle_sim,
    pairwise_cos_sim,
    pairwise_dot_score,
    pairwise_euclidean_sim,
    pairwise_manhattan_sim,
    pytorch_cos_sim,
)
from likewise.training.data.resolve_ids import resolve_ids
from likewise.util.distributed import (
    all_gather,
    all_gather_padded,
    all_gather_with_grad,
    distributed_evaluation,
)
from likewise.util.environment import (
    check_package_availability,
    is_accelerate_available,
    is_datasets_available,
    is_training_available,
)
from likewise.util.logging import LoggingHandler, disable_logging, install_logger
from likewise.util.misc import (
    append_to_last_row,
    deprecated_kwargs,
    disable_datasets_caching,
    fullname,
    import_from_string,
    import_module_class,
)
from likewise.util.tensor import (
    batch_to_device,
    cat_padded_token_embeddings,
    compute_count_vector,
    normalize_embeddings,
    repad_flattened_features,
    select_max_active_dims,
    stack_padded_token_embeddings,
    to_scipy_coo,
    truncate_embeddings,
)

__all__ = [
    "LoggingHandler",
    "SimilarityFunction",
    "all_gather",
    "all_gather_padded",
    "all_gather_with_grad",
    "append_to_last_row",
    "batch_to_device",
    "cat_padded_token_embeddings",
    "check_package_availability",
    "check_teacher_targets",
    "check_version_requirements",
    "community_detection",
    "compute_count_vector",
    "cos_sim",
    "deprecated_kwargs",
    "disable_datasets_caching",
    "disable_logging",
    "distributed_evaluation",
    "dot_score",
    "euclidean_sim",
    "fullname",
    "get_device_name",
    "get_rank",
    "get_world_size",
    "http_get",
    "import_from_string",
    "import_module_class",
    "information_retrieval",
    "install_logger",
    "is_accelerate_available",
    "is_datasets_available",
    "is_dist_initialized",
    "is_sentence_transformer_model",
    "is_training_available",
    "load_dir_path",
    "load_file_path",
    "manhattan_sim",
    "maxsim",
    "maxsim_pairwise",
    "mean_maxsim",
    "mean_maxsim_pairwise",
    "mine_hard_negatives",
    "normalize_embeddings",
    "pairwise_angle_sim",
    "pairwise_cos_sim",
    "pairwise_dot_score",
    "pairwise_euclidean_sim",
    "pairwise_manhattan_sim",
    "paraphrase_mining",
    "paraphrase_mining_embeddings",
    "pytorch_cos_sim",
    "quantize_embeddings",
    "repad_flattened_features",
    "resolve_ids",
    "select_max_active_dims",
    "semantic_search",
    "semantic_search_faiss",
    "semantic_search_usearch",
    "similarity_fct_name",
    "stack_padded_token_embeddings",
    "to_scipy_coo",
    "truncate_embeddings",
]
