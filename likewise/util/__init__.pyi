# What lives where: for type checkers, and for `likewise.lazy`, which imports a name when it is first used.

from likewise.hub import http_get as http_get
from likewise.hub import is_sentence_transformer_model as is_sentence_transformer_model
from likewise.hub import load_dir_path as load_dir_path
from likewise.hub import load_file_path as load_file_path
from likewise.losses.score_distill import check_teacher_targets as check_teacher_targets
from likewise.model.storage import check_version_requirements as check_version_requirements
from likewise.multi_vector_encoder.maxsim_scores import maxsim as maxsim
from likewise.multi_vector_encoder.maxsim_scores import maxsim_pairwise as maxsim_pairwise
from likewise.multi_vector_encoder.maxsim_scores import mean_maxsim as mean_maxsim
from likewise.multi_vector_encoder.maxsim_scores import mean_maxsim_pairwise as mean_maxsim_pairwise
from likewise.multi_vector_encoder.padded_tokens import (
    cat_padded_token_embeddings as cat_padded_token_embeddings,
)
from likewise.multi_vector_encoder.padded_tokens import repad_flattened_features as repad_flattened_features
from likewise.multi_vector_encoder.padded_tokens import (
    stack_padded_token_embeddings as stack_padded_token_embeddings,
)
from likewise.processes import get_rank as get_rank
from likewise.processes import get_world_size as get_world_size
from likewise.processes import is_dist_initialized as is_dist_initialized
from likewise.retrieval import community_detection as community_detection
from likewise.retrieval import information_retrieval as information_retrieval
from likewise.retrieval import mine_hard_negatives as mine_hard_negatives
from likewise.retrieval import paraphrase_mining as paraphrase_mining
from likewise.retrieval import paraphrase_mining_embeddings as paraphrase_mining_embeddings
from likewise.retrieval import quantize_embeddings as quantize_embeddings
from likewise.retrieval import semantic_search as semantic_search
from likewise.retrieval import semantic_search_faiss as semantic_search_faiss
from likewise.retrieval import semantic_search_usearch as semantic_search_usearch
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
