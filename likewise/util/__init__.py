"""Functions around embeddings, models and runs, under the name that the reference gave them.

Each is imported when it is first used: some need the training's libraries, and `util` is imported everywhere.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from likewise.hub import http_get as http_get
    from likewise.hub import is_sentence_transformer_model as is_sentence_transformer_model
    from likewise.hub import load_dir_path as load_dir_path
    from likewise.hub import load_file_path as load_file_path
    from likewise.losses.score_distill import check_teacher_targets as check_teacher_targets
    from likewise.model.storage import check_version_requirements as check_version_requirements
    from likewise.multi_vector_encoder.maxsim import maxsim as maxsim
    from likewise.multi_vector_encoder.maxsim import maxsim_pairwise as maxsim_pairwise
    from likewise.multi_vector_encoder.maxsim import mean_maxsim as mean_maxsim
    from likewise.multi_vector_encoder.maxsim import mean_maxsim_pairwise as mean_maxsim_pairwise
    from likewise.multi_vector_encoder.padded_tokens import (
        cat_padded_token_embeddings as cat_padded_token_embeddings,
    )
    from likewise.multi_vector_encoder.padded_tokens import (
        repad_flattened_features as repad_flattened_features,
    )
    from likewise.multi_vector_encoder.padded_tokens import (
        stack_padded_token_embeddings as stack_padded_token_embeddings,
    )
    from likewise.precision import quantize_embeddings as quantize_embeddings
    from likewise.processes import get_rank as get_rank
    from likewise.processes import get_world_size as get_world_size
    from likewise.processes import is_dist_initialized as is_dist_initialized
    from likewise.retrieval.community_detection import community_detection as community_detection
    from likewise.retrieval.hard_negatives import mine_hard_negatives as mine_hard_negatives
    from likewise.retrieval.paraphrase_mining import paraphrase_mining as paraphrase_mining
    from likewise.retrieval.paraphrase_mining import (
        paraphrase_mining_embeddings as paraphrase_mining_embeddings,
    )
    from likewise.retrieval.quantized_search import semantic_search_faiss as semantic_search_faiss
    from likewise.retrieval.quantized_search import semantic_search_usearch as semantic_search_usearch
    from likewise.retrieval.semantic_search import information_retrieval as information_retrieval
    from likewise.retrieval.semantic_search import semantic_search as semantic_search
    from likewise.similarity import SimilarityFunction as SimilarityFunction
    from likewise.similarity import cos_sim as cos_sim
    from likewise.similarity import dot_score as dot_score
    from likewise.similarity import euclidean_sim as euclidean_sim
    from likewise.similarity import manhattan_sim as manhattan_sim
    from likewise.similarity import pairwise_angle_sim as pairwise_angle_sim
    from likewise.similarity import pairwise_cos_sim as pairwise_cos_sim
    from likewise.similarity import pairwise_dot_score as pairwise_dot_score
    from likewise.similarity import pairwise_euclidean_sim as pairwise_euclidean_sim
    from likewise.similarity import pairwise_manhattan_sim as pairwise_manhattan_sim
    from likewise.similarity import pytorch_cos_sim as pytorch_cos_sim
    from likewise.sparse_encoder.sparse_tensors import compute_count_vector as compute_count_vector
    from likewise.sparse_encoder.sparse_tensors import select_max_active_dims as select_max_active_dims
    from likewise.sparse_encoder.sparse_tensors import to_scipy_coo as to_scipy_coo
    from likewise.training.data.resolve_ids import resolve_ids as resolve_ids
    from likewise.util.distributed import all_gather as all_gather
    from likewise.util.distributed import all_gather_padded as all_gather_padded
    from likewise.util.distributed import all_gather_with_grad as all_gather_with_grad
    from likewise.util.distributed import distributed_evaluation as distributed_evaluation
    from likewise.util.embeddings import batch_to_device as batch_to_device
    from likewise.util.embeddings import normalize_embeddings as normalize_embeddings
    from likewise.util.embeddings import truncate_embeddings as truncate_embeddings
    from likewise.util.environment import check_package_availability as check_package_availability
    from likewise.util.environment import get_device_name as get_device_name
    from likewise.util.environment import is_accelerate_available as is_accelerate_available
    from likewise.util.environment import is_datasets_available as is_datasets_available
    from likewise.util.environment import is_training_available as is_training_available
    from likewise.util.logging import LoggingHandler as LoggingHandler
    from likewise.util.logging import disable_logging as disable_logging
    from likewise.util.logging import install_logger as install_logger
    from likewise.util.misc import append_to_last_row as append_to_last_row
    from likewise.util.misc import deprecated_kwargs as deprecated_kwargs
    from likewise.util.misc import disable_datasets_caching as disable_datasets_caching
    from likewise.util.misc import fullname as fullname
    from likewise.util.misc import import_from_string as import_from_string
    from likewise.util.misc import import_module_class as import_module_class
    from likewise.util.misc import similarity_fct_name as similarity_fct_name

# What lives where, below the package.
_NAMES = {
    "hub": "http_get is_sentence_transformer_model load_dir_path load_file_path",
    "losses.score_distill": "check_teacher_targets",
    "model.storage": "check_version_requirements",
    "multi_vector_encoder.maxsim": "maxsim maxsim_pairwise mean_maxsim mean_maxsim_pairwise",
    "multi_vector_encoder.padded_tokens": "cat_padded_token_embeddings repad_flattened_features stack_padded_token_embeddings",
    "processes": "get_rank get_world_size is_dist_initialized",
    "retrieval": """
        community_detection information_retrieval mine_hard_negatives paraphrase_mining
        paraphrase_mining_embeddings quantize_embeddings semantic_search semantic_search_faiss
        semantic_search_usearch""",
    "similarity": """
        SimilarityFunction cos_sim dot_score euclidean_sim manhattan_sim pairwise_angle_sim
        pairwise_cos_sim pairwise_dot_score pairwise_euclidean_sim pairwise_manhattan_sim
        pytorch_cos_sim""",
    "sparse_encoder.sparse_tensors": "compute_count_vector select_max_active_dims to_scipy_coo",
    "training.data.resolve_ids": "resolve_ids",
    "util.distributed": "all_gather all_gather_padded all_gather_with_grad distributed_evaluation",
    "util.embeddings": "batch_to_device normalize_embeddings truncate_embeddings",
    "util.environment": """
        check_package_availability get_device_name is_accelerate_available is_datasets_available
        is_training_available""",
    "util.logging": "LoggingHandler disable_logging install_logger",
    "util.misc": """
        append_to_last_row deprecated_kwargs disable_datasets_caching fullname
        import_from_string import_module_class similarity_fct_name""",
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f"likewise.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
