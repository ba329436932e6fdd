"""One table of the reference's names: its files of every release, by where their names live here, and what is not here."""

from __future__ import annotations

API_VERSION = "6.2.0"
"""The release of the reference whose API this is; what programs that ask for its version are told."""
# 6.x keeps in these two what stood at the top before.
TOPS = ("base", "sentence_transformer")
# The reference's files by the place that has their names now ("" is the package): before 5.4 there was one for each class.
FILES = {
    "": "SentenceTransformer model",
    "cross_encoder": "CrossEncoder",
    "cross_encoder.evaluation": """CEBinaryAccuracyEvaluator CEBinaryClassificationEvaluator CECorrelationEvaluator
        CEF1Evaluator CERerankingEvaluator CESoftmaxAccuracyEvaluator deprecated""",
    "cross_encoder.losses": """ADRMSELoss BinaryCrossEntropyLoss CachedMultipleNegativesRankingLoss CrossEntropyLoss LambdaLoss
        ListMLELoss ListNetLoss MSELoss MarginMSELoss MultipleNegativesRankingLoss PListMLELoss RankNetLoss
        cached_multiple_negatives_ranking""",
    "datasets": """DenoisingAutoEncoderDataset NoDuplicatesDataLoader ParallelSentencesDataset SentenceLabelDataset
        SentencesDataset denoising_auto_encoder no_duplicates_dataloader parallel_sentences sentence_label sentences""",
    "evaluation": """BinaryClassificationEvaluator EmbeddingSimilarityEvaluator InformationRetrievalEvaluator
        LabelAccuracyEvaluator MSEEvaluator MSEEvaluatorFromDataFrame NanoBEIREvaluator ParaphraseMiningEvaluator
        RerankingEvaluator SentenceEvaluator SequentialEvaluator SimilarityFunction TranslationEvaluator TripletEvaluator
        evaluator""",
    "losses": """AdaptiveLayerLoss AnglELoss BatchAllTripletLoss BatchHardSoftMarginTripletLoss BatchHardTripletLoss
        BatchSemiHardTripletLoss CachedGISTEmbedLoss CachedMultipleNegativesRankingLoss
        CachedMultipleNegativesSymmetricRankingLoss CoSENTLoss ContrastiveLoss ContrastiveTensionLoss CosineSimilarityLoss
        DenoisingAutoEncoderLoss DistillKLDivLoss GISTEmbedLoss MSELoss MarginMSELoss Matryoshka2dLoss MatryoshkaLoss
        MegaBatchMarginLoss MultipleNegativesRankingLoss MultipleNegativesSymmetricRankingLoss OnlineContrastiveLoss
        SoftmaxLoss TripletLoss angle batch_all_triplet batch_hard_soft_margin_triplet batch_hard_triplet
        batch_semi_hard_triplet cached_gist_embed cached_multiple_negatives_ranking
        cached_multiple_negatives_symmetric_ranking distill_kl_div gradcache margin_mse matryoshka_2d mse
        multiple_negatives_symmetric_ranking online_contrastive""",
    "models": """Asym BoW CLIPModel CNN Dense Dropout InputModule LSTM LayerNorm Module Normalize Pooling Router
        StaticEmbedding Transformer WeightedLayerPooling WordEmbeddings WordWeights tokenizer tokenizer.PhraseTokenizer
        tokenizer.WhitespaceTokenizer tokenizer.WordTokenizer""",
    "multi_vector_encoder": "data_collator",
    "multi_vector_encoder.evaluation": "distillation information_retrieval",
    "multi_vector_encoder.losses": "cached_multiple_negatives_ranking distill_kl_div margin_mse",
    "multi_vector_encoder.scoring": "colbert xtr",
    "readers": """InputExample LabelSentenceReader NLIDataReader PairedFilesReader STSDataReader TripletReader input_example
        label_sentence nli_data paired_files sts_data triplet""",
    "sparse_encoder": "SparseEncoder",
    "sparse_encoder.evaluation": """ReciprocalRankFusionEvaluator SparseBinaryClassificationEvaluator
        SparseEmbeddingSimilarityEvaluator SparseInformationRetrievalEvaluator SparseMSEEvaluator SparseNanoBEIREvaluator
        SparseRerankingEvaluator SparseTranslationEvaluator SparseTripletEvaluator sparse_binary_classification
        sparse_embedding_similarity sparse_information_retrieval sparse_mse sparse_nano_beir sparse_reranking
        sparse_translation sparse_triplet""",
    "sparse_encoder.losses": """CSRLoss FlopsLoss SparseAnglELoss SparseCoSENTLoss SparseCosineSimilarityLoss
        SparseDistillKLDivLoss SparseMSELoss SparseMarginMSELoss SparseMultipleNegativesRankingLoss SparseTripletLoss
        SpladeLoss cached_splade sparse_angle sparse_cosent sparse_cosine_similarity sparse_distill_kl_div sparse_margin_mse
        sparse_mse sparse_multiple_negatives_ranking sparse_triplet""",
    "util": "dataset file_io hard_negatives quantization retrieval similarity tensor",
}
HOMES = {f"{room}.{file}".lstrip("."): room for room, files in FILES.items() for file in files.split()} | {
    "LoggingHandler": "util",
    "data_collator": "training.data.data_collator",
    "modules.input_module": "models",
    "modules.module": "models",
    "modules.tokenizer": "models",
    "modules.tokenizer.phrase": "models",
    "modules.tokenizer.whitespace": "models",
    "modules.tokenizer.word": "models",
    "sparse_encoder.models": "sparse_encoder.modules",
    **{
        f"sparse_encoder.models.{name}": "sparse_encoder.modules"
        for name in ("IDF", "MLMTransformer", "SparseAutoEncoder", "SparseStaticEmbedding", "SpladePooling")
    },
}
# The classes of its files in 6.2: what a class is called there, for programs that choose by it.
CLASSES = """
base.data_collator: BaseDataCollator
base.evaluation.evaluator: BaseEvaluator SentenceEvaluator
base.evaluation.sequential: SequentialEvaluator
base.losses.gradcache: RandContext
base.model: BaseModel
base.model_card: BaseModelCardCallback BaseModelCardData
base.modules.dense: Dense
base.modules.input_module: InputModule
base.modules.module: Module
base.modules.normalize: Normalize
base.modules.router: Router Asym
base.modules.transformer: ProcessingKwargs QueryExpansionConfig Transformer
base.sampler: BatchSamplers MultiDatasetBatchSamplers DefaultBatchSampler GroupByLabelBatchSampler
    NoDuplicatesBatchSampler MultiDatasetDefaultBatchSampler RoundRobinBatchSampler ProportionalBatchSampler
base.trainer: BaseTrainer
base.training_args: BaseTrainingArguments
cross_encoder.data_collator: CrossEncoderDataCollator
cross_encoder.evaluation.classification: CrossEncoderClassificationEvaluator
cross_encoder.evaluation.correlation: CrossEncoderCorrelationEvaluator
cross_encoder.evaluation.deprecated: CEBinaryAccuracyEvaluator CEBinaryClassificationEvaluator CEF1Evaluator
    CESoftmaxAccuracyEvaluator CECorrelationEvaluator CERerankingEvaluator
cross_encoder.evaluation.nano_beir: CrossEncoderNanoBEIREvaluator
cross_encoder.evaluation.reranking: CrossEncoderRerankingEvaluator
cross_encoder.losses.adr_mse: ADRMSELoss
cross_encoder.losses.binary_cross_entropy: BinaryCrossEntropyLoss
cross_encoder.losses.cached_multiple_negatives_ranking: CachedMultipleNegativesRankingLoss
cross_encoder.losses.cross_entropy: CrossEntropyLoss
cross_encoder.losses.lambda_loss: BaseWeightingScheme NoWeightingScheme NDCGLoss1Scheme NDCGLoss2Scheme
    LambdaRankScheme NDCGLoss2PPScheme LambdaLoss
cross_encoder.losses.list_mle: ListMLELoss
cross_encoder.losses.list_net: ListNetLoss
cross_encoder.losses.margin_mse: MarginMSELoss
cross_encoder.losses.mse: MSELoss
cross_encoder.losses.multiple_negatives_ranking: MultipleNegativesRankingLoss
cross_encoder.losses.plist_mle: PListMLELambdaWeight PListMLELoss
cross_encoder.losses.rank_net: RankNetLoss
cross_encoder.model: CrossEncoder
cross_encoder.model_card: CrossEncoderModelCardCallback CrossEncoderModelCardData
cross_encoder.modules.logit_score: LogitScore
cross_encoder.trainer: CrossEncoderTrainer
cross_encoder.training_args: CrossEncoderTrainingArguments
multi_vector_encoder.data_collator: MultiVectorEncoderDataCollator
multi_vector_encoder.evaluation.distillation: MultiVectorDistillationEvaluator
multi_vector_encoder.evaluation.information_retrieval: MultiVectorInformationRetrievalEvaluator
multi_vector_encoder.evaluation.nano_beir: MultiVectorNanoBEIREvaluator
multi_vector_encoder.evaluation.reranking: MultiVectorRerankingEvaluator
multi_vector_encoder.evaluation.triplet: MultiVectorTripletEvaluator
multi_vector_encoder.losses.cached_multiple_negatives_ranking: CachedMultiVectorMultipleNegativesRankingLoss
multi_vector_encoder.losses.distill_kl_div: MultiVectorDistillKLDivLoss
multi_vector_encoder.losses.margin_mse: MultiVectorMarginMSELoss
multi_vector_encoder.losses.multiple_negatives_ranking: MultiVectorMultipleNegativesRankingLoss
multi_vector_encoder.model: MultiVectorEncoder
multi_vector_encoder.model_card: MultiVectorEncoderModelCardCallback MultiVectorEncoderModelCardData
multi_vector_encoder.modules.multi_vector_mask: MultiVectorMask
multi_vector_encoder.modules.token_pooling: BaseTokenPooling HierarchicalTokenPooling LambdaTokenPooling
multi_vector_encoder.scoring.xtr: XTRScores XTRKDScores
multi_vector_encoder.trainer: MultiVectorEncoderTrainer
multi_vector_encoder.training_args: MultiVectorEncoderTrainingArguments
sentence_transformer.data_collator: SentenceTransformerDataCollator
sentence_transformer.datasets.denoising_auto_encoder: DenoisingAutoEncoderDataset
sentence_transformer.datasets.no_duplicates_dataloader: NoDuplicatesDataLoader
sentence_transformer.datasets.parallel_sentences: ParallelSentencesDataset
sentence_transformer.datasets.sentence_label: SentenceLabelDataset
sentence_transformer.datasets.sentences: SentencesDataset
sentence_transformer.evaluation.binary_classification: BinaryClassificationEvaluator
sentence_transformer.evaluation.embedding_similarity: EmbeddingSimilarityEvaluator
sentence_transformer.evaluation.information_retrieval: InformationRetrievalEvaluator
sentence_transformer.evaluation.label_accuracy: LabelAccuracyEvaluator
sentence_transformer.evaluation.mse: MSEEvaluator
sentence_transformer.evaluation.mse_from_dataframe: MSEEvaluatorFromDataFrame
sentence_transformer.evaluation.nano_beir: NanoBEIREvaluator
sentence_transformer.evaluation.paraphrase_mining: ParaphraseMiningEvaluator
sentence_transformer.evaluation.reranking: RerankingEvaluator
sentence_transformer.evaluation.translation: TranslationEvaluator
sentence_transformer.evaluation.triplet: TripletEvaluator
sentence_transformer.losses.adaptive_layer: AdaptiveLayerLoss
sentence_transformer.losses.angle: AnglELoss
sentence_transformer.losses.batch_all_triplet: BatchAllTripletLoss
sentence_transformer.losses.batch_hard_soft_margin_triplet: BatchHardSoftMarginTripletLoss
sentence_transformer.losses.batch_hard_triplet: BatchHardTripletLossDistanceFunction BatchHardTripletLoss
sentence_transformer.losses.batch_semi_hard_triplet: BatchSemiHardTripletLoss
sentence_transformer.losses.cached_gist_embed: CachedGISTEmbedLoss
sentence_transformer.losses.cached_multiple_negatives_ranking: CachedMultipleNegativesRankingLoss
sentence_transformer.losses.cached_multiple_negatives_symmetric_ranking:
    CachedMultipleNegativesSymmetricRankingLoss
sentence_transformer.losses.contrastive: SiameseDistanceMetric ContrastiveLoss
sentence_transformer.losses.contrastive_tension: ContrastiveTensionLoss ContrastiveTensionLossInBatchNegatives
    ContrastiveTensionDataLoader
sentence_transformer.losses.cosent: CoSENTLoss
sentence_transformer.losses.cosine_similarity: CosineSimilarityLoss
sentence_transformer.losses.denoising_auto_encoder: DenoisingAutoEncoderLoss
sentence_transformer.losses.distill_kl_div: DistillKLDivLoss
sentence_transformer.losses.embed_distill: EmbedDistillLoss
sentence_transformer.losses.gist_embed: GISTEmbedLoss
sentence_transformer.losses.global_orthogonal_regularization: GlobalOrthogonalRegularizationLoss
sentence_transformer.losses.margin_mse: MarginMSELoss
sentence_transformer.losses.matryoshka: MatryoshkaLoss
sentence_transformer.losses.matryoshka_2d: Matryoshka2dLoss
sentence_transformer.losses.mega_batch_margin: MegaBatchMarginLoss
sentence_transformer.losses.mse: MSELoss
sentence_transformer.losses.multiple_negatives_ranking: MultipleNegativesRankingLoss
sentence_transformer.losses.multiple_negatives_symmetric_ranking: MultipleNegativesSymmetricRankingLoss
sentence_transformer.losses.online_contrastive: OnlineContrastiveLoss
sentence_transformer.losses.softmax: SoftmaxLoss
sentence_transformer.losses.triplet: TripletDistanceMetric TripletLoss
sentence_transformer.model: SentenceTransformer
sentence_transformer.model_card: SentenceTransformerModelCardCallback SentenceTransformerModelCardData
    ModelCardCallback
sentence_transformer.modules.bow: BoW
sentence_transformer.modules.clip_model: CLIPModel
sentence_transformer.modules.cnn: CNN
sentence_transformer.modules.dropout: Dropout
sentence_transformer.modules.layer_norm: LayerNorm
sentence_transformer.modules.lstm: LSTM
sentence_transformer.modules.pooling: Pooling
sentence_transformer.modules.static_embedding: StaticEmbedding
sentence_transformer.modules.tokenizer.phrase: PhraseTokenizer
sentence_transformer.modules.tokenizer.whitespace: WhitespaceTokenizer
sentence_transformer.modules.tokenizer.word: WordTokenizer TransformersTokenizerWrapper
sentence_transformer.modules.weighted_layer_pooling: WeightedLayerPooling
sentence_transformer.modules.word_embeddings: WordEmbeddings
sentence_transformer.modules.word_weights: WordWeights
sentence_transformer.readers.input_example: InputExample
sentence_transformer.readers.label_sentence: LabelSentenceReader
sentence_transformer.readers.nli_data: NLIDataReader
sentence_transformer.readers.paired_files: PairedFilesReader
sentence_transformer.readers.sts_data: STSDataReader STSBenchmarkDataReader
sentence_transformer.readers.triplet: TripletReader
sentence_transformer.trainer: SentenceTransformerTrainer
sentence_transformer.training_args: SentenceTransformerTrainingArguments
sparse_encoder.callbacks.splade_callbacks: SchedulerType SpladeRegularizerWeightSchedulerCallback
sparse_encoder.data_collator: SparseEncoderDataCollator
sparse_encoder.evaluation.reciprocal_rank_fusion: ReciprocalRankFusionEvaluator
sparse_encoder.evaluation.sparse_binary_classification: SparseBinaryClassificationEvaluator
sparse_encoder.evaluation.sparse_embedding_similarity: SparseEmbeddingSimilarityEvaluator
sparse_encoder.evaluation.sparse_information_retrieval: SparseInformationRetrievalEvaluator
sparse_encoder.evaluation.sparse_mse: SparseMSEEvaluator
sparse_encoder.evaluation.sparse_nano_beir: SparseNanoBEIREvaluator
sparse_encoder.evaluation.sparse_reranking: SparseRerankingEvaluator
sparse_encoder.evaluation.sparse_translation: SparseTranslationEvaluator
sparse_encoder.evaluation.sparse_triplet: SparseTripletEvaluator
sparse_encoder.losses.cached_splade: CachedSpladeLoss
sparse_encoder.losses.csr: CSRReconstructionLoss CSRLoss normalized_mean_squared_error
sparse_encoder.losses.flops: FlopsLoss
sparse_encoder.losses.sparse_angle: SparseAnglELoss
sparse_encoder.losses.sparse_cosent: SparseCoSENTLoss
sparse_encoder.losses.sparse_cosine_similarity: SparseCosineSimilarityLoss
sparse_encoder.losses.sparse_distill_kl_div: SparseDistillKLDivLoss
sparse_encoder.losses.sparse_margin_mse: SparseMarginMSELoss
sparse_encoder.losses.sparse_mse: SparseMSELoss
sparse_encoder.losses.sparse_multiple_negatives_ranking: SparseMultipleNegativesRankingLoss
sparse_encoder.losses.sparse_triplet: SparseTripletLoss
sparse_encoder.losses.splade: SpladeLoss
sparse_encoder.model: SparseEncoder
sparse_encoder.model_card: SparseEncoderModelCardCallback SparseEncoderModelCardData
sparse_encoder.modules.mlm_transformer: MLMTransformer
sparse_encoder.modules.sparse_auto_encoder: SparseAutoEncoder
sparse_encoder.modules.sparse_static_embedding: SparseStaticEmbedding
sparse_encoder.modules.splade_pooling: SpladePooling
sparse_encoder.trainer: SparseEncoderTrainer
sparse_encoder.training_args: SparseEncoderTrainingArguments
util.logging: LoggingHandler
util.similarity: SimilarityFunction
"""
# What has another name here, or is in some of the files of a place only: the reference's file and name, this package's.
BASES = {(path, "BaseModel"): ("likewise.model.model", "Model") for path in ("base", "base.model")} | {
    (path, name): (home, name)
    for path, home, names in (
        ("base", "likewise.trainer", "BaseTrainer"),
        ("base", "likewise.training_args", "BaseTrainingArguments"),
        ("base", "likewise.training.data.data_collator", "BaseDataCollator"),
        (
            "base", "likewise.sampler",
            "BatchSamplers DefaultBatchSampler GroupByLabelBatchSampler MultiDatasetBatchSamplers "
            "MultiDatasetDefaultBatchSampler NoDuplicatesBatchSampler ProportionalBatchSampler RoundRobinBatchSampler",
        ),
        ("sentence_transformer", "likewise.training.data.data_collator", "SentenceTransformerDataCollator"),
    )
    for name in names.split()
} | {
    (path, "RandContext"): ("likewise.legacy.rand_context", "RandContext")
    for path in (
        "base.losses.gradcache", "losses.CachedGISTEmbedLoss", "losses.CachedMultipleNegativesRankingLoss",
        "losses.CachedMultipleNegativesSymmetricRankingLoss", "sentence_transformer.losses.cached_gist_embed",
        "sentence_transformer.losses.cached_multiple_negatives_ranking",
        "sentence_transformer.losses.cached_multiple_negatives_symmetric_ranking",
    )
}  # fmt: skip
# Of the same release, what is not here yet; their names can be imported, and refuse when they are used.
NOT_HERE = """
multi_vector_encoder.interpretability: real_query_token_slice get_n_patches maxsim_similarity_map
    render_similarity_map_on_image maxsim_heatmap
"""


def by_path(table: str) -> dict[str, list[str]]:
    """The names of each file of a table."""
    entries = " ".join(table.split()).replace(": ", ":").split(" ")
    names: dict[str, list[str]] = {}
    path = ""
    for entry in entries:
        first, _, second = entry.rpartition(":")
        path = first or path
        names.setdefault(path, []).append(second)
    return names


MISSING = by_path(NOT_HERE)


def reference_path(name: str, module: str) -> str | None:
    """The reference's file that has a class of this package, by the class's name and module; None if none has."""
    family = module.split(".")[1]
    return _PATHS.get((family if family in _FAMILIES else "", name))


_FAMILIES = frozenset({"cross_encoder", "multi_vector_encoder", "sparse_encoder"})
_PATHS = {
    (path.partition(".")[0] if path.partition(".")[0] in _FAMILIES else "", name): path
    for path, names in by_path(CLASSES).items()
    for name in names
}
