"""SetFit: a classifier from a few examples for each class."""

from collections import defaultdict

from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments
from shared import MODEL, SENTENCES, TOPICS, save, timed

by_topic = defaultdict(list)
for sentence, topic in zip(SENTENCES, TOPICS, strict=True):
    by_topic[topic].append(sentence)
topics = sorted(by_topic, key=lambda topic: (-len(by_topic[topic]), topic))[:3]
shots = [(text, label) for label, topic in enumerate(topics) for text in by_topic[topic][:4]]
data = Dataset.from_dict({"text": [text for text, _ in shots], "label": [label for _, label in shots]})
model = SetFitModel.from_pretrained(MODEL, device="cpu")
arguments = TrainingArguments(
    "setfit", batch_size=8, max_steps=8, report_to="none", save_strategy="no", seed=1
)
trainer = Trainer(model=model, args=arguments, train_dataset=data)
before = model.encode(SENTENCES[:20])
with timed():
    trainer.train()
    after = model.predict_proba(SENTENCES)
assert abs(model.encode(SENTENCES[:20]) - before).max() > 1e-3, "nothing was trained"
save(before=before, probabilities=after)
