"""Functions around embeddings, models and runs, under the name that the reference gave them.

Each is imported when it is first used: some need the training's libraries, and `util` is imported everywhere.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from likewise.hub import http_get, is_sentence_transformer_model, load_dir_path, load_file_path
    from likewise.losses.base import function_name as similarity_fct_name
    from likewise.losses.teacher_targets import check_teacher_targets
    from likewise.model.storage import check_version_requirements
    from likewise.modules.device import best_device as get_device_name
    from likewise.multi_vector_encoder.maxsim import (
        maxsim,
        maxsim_pairwise,
        mean_maxsim,
        mean_maxsim_pairwise,
    )
    from likewise.multi_vector_encoder.padded_tokens import (
        cat_padded_token_embeddings,
        repad_flattened_features,
        stack_padded_token_embeddings,
    )
    from likewise.precision import quantize_embeddings
    from likewise.processes import get_rank, get_world_size, is_dist_initialized
    from likewise.retrieval.community_detection import community_detection
    from likewise.retrieval.hard_negatives import mine_hard_negatives
    from likewise.retrieval.paraphrase_mining import paraphrase_mining, paraphrase_mining_embeddings
    from likewise.retrieval.quantized_search import semantic_search_faiss, semantic_search_usearch
    from likewise.retrieval.semantic_search import information_retrieval, semantic_search
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
    from likewise.sparse_encoder.sparse_tensors import (
        compute_count_vector,
        select_max_active_dims,
        to_scipy_coo,
    )
    from likewise.training.data.resolve_ids import resolve_ids
    from likewise.util.distributed import (
        all_gather,
        all_gather_padded,
        all_gather_with_grad,
        distributed_evaluation,
    )
    from likewise.util.embeddings import (
        batch_to_device,
        normalize_embeddings,
        truncate_embeddings,
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

# Where each lives, and under which name where that is another one.
_HOMES = {
    "LoggingHandler": "likewise.util.logging",
    "SimilarityFunction": "likewise.similarity",
    "all_gather": "likewise.util.distributed",
    "all_gather_padded": "likewise.util.distributed",
    "all_gather_with_grad": "likewise.util.distributed",
    "append_to_last_row": "likewise.util.misc",
    "batch_to_device": "likewise.util.embeddings",
    "cat_padded_token_embeddings": "likewise.multi_vector_encoder.padded_tokens",
    "check_package_availability": "likewise.util.environment",
    "check_teacher_targets": "likewise.losses.teacher_targets",
    "check_version_requirements": "likewise.model.storage",
    "community_detection": "likewise.retrieval",
    "compute_count_vector": "likewise.sparse_encoder.sparse_tensors",
    "cos_sim": "likewise.similarity",
    "deprecated_kwargs": "likewise.util.misc",
    "disable_datasets_caching": "likewise.util.misc",
    "disable_logging": "likewise.util.logging",
    "distributed_evaluation": "likewise.util.distributed",
    "dot_score": "likewise.similarity",
    "euclidean_sim": "likewise.similarity",
    "fullname": "likewise.util.misc",
    "get_device_name": "likewise.modules.device:best_device",
    "get_rank": "likewise.processes",
    "get_world_size": "likewise.processes",
    "http_get": "likewise.hub",
    "import_from_string": "likewise.util.misc",
    "import_module_class": "likewise.util.misc",
    "information_retrieval": "likewise.retrieval",
    "install_logger": "likewise.util.logging",
    "is_accelerate_available": "likewise.util.environment",
    "is_datasets_available": "likewise.util.environment",
    "is_dist_initialized": "likewise.processes",
    "is_sentence_transformer_model": "likewise.hub",
    "is_training_available": "likewise.util.environment",
    "load_dir_path": "likewise.hub",
    "load_file_path": "likewise.hub",
    "manhattan_sim": "likewise.similarity",
    "maxsim": "likewise.multi_vector_encoder.maxsim",
    "maxsim_pairwise": "likewise.multi_vector_encoder.maxsim",
    "mean_maxsim": "likewise.multi_vector_encoder.maxsim",
    "mean_maxsim_pairwise": "likewise.multi_vector_encoder.maxsim",
    "mine_hard_negatives": "likewise.retrieval",
    "normalize_embeddings": "likewise.util.embeddings",
    "pairwise_angle_sim": "likewise.similarity",
    "pairwise_cos_sim": "likewise.similarity",
    "pairwise_dot_score": "likewise.similarity",
    "pairwise_euclidean_sim": "likewise.similarity",
    "pairwise_manhattan_sim": "likewise.similarity",
    "paraphrase_mining": "likewise.retrieval",
    "paraphrase_mining_embeddings": "likewise.retrieval",
    "pytorch_cos_sim": "likewise.similarity",
    "quantize_embeddings": "likewise.retrieval",
    "repad_flattened_features": "likewise.multi_vector_encoder.padded_tokens",
    "resolve_ids": "likewise.training.data.resolve_ids",
    "select_max_active_dims": "likewise.sparse_encoder.sparse_tensors",
    "semantic_search": "likewise.retrieval",
    "semantic_search_faiss": "likewise.retrieval",
    "semantic_search_usearch": "likewise.retrieval",
    "similarity_fct_name": "likewise.losses.base:function_name",
    "stack_padded_token_embeddings": "likewise.multi_vector_encoder.padded_tokens",
    "to_scipy_coo": "likewise.sparse_encoder.sparse_tensors",
    "truncate_embeddings": "likewise.util.embeddings",
}

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


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home, _, other = _HOMES[name].partition(":")
    globals()[name] = value = getattr(import_module(home), other or name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
