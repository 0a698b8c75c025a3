"""Folders as the libraries of Hugging Face write them: small random weights, configurations as real ones have."""

import json
import shutil

from ..case import case

TRANSFORMERS = "transformers tokenizers safetensors torch numpy"
WORDS = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] the a film was good bad great awful it i like hate very and but plot actor ! . ,"
)
TEXTS = ["the film was very good", "i hate the plot, awful actor!"]


def word_pieces():
    """A tokenizer as BERT's, of few words."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = list(dict.fromkeys(WORDS.split() + letters + [f"##{letter}" for letter in letters]))
    numbers = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(numbers, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", numbers["[CLS]"]), ("[SEP]", numbers["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
    )


def byte_pairs():
    """A tokenizer as GPT-2's, trained on few texts."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(TEXTS * 4, vocab_size=320, special_tokens=["<|endoftext|>"], show_progress=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer._tokenizer, eos_token="<|endoftext|>", bos_token="<|endoftext|>", model_max_length=64
    )


def bert(**more):
    from transformers import BertConfig

    return BertConfig(
        vocab_size=len(word_pieces()),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.4,
        **more,
    )


def folder(saved, name, model, tokenizer=None):
    path = saved.path(name)
    model.eval().save_pretrained(path)
    if tokenizer:
        tokenizer.save_pretrained(path)
    return str(path)


def text(path, value):
    path.write_text(json.dumps(value, indent=2))


def of_old(path, version):
    """Turns a folder into one as transformers 4 wrote it: weights twice, a vocabulary, a tokenizer of a class."""
    import safetensors.torch
    import torch

    config = json.loads((path / "config.json").read_text())
    config["torch_dtype"] = config.pop("dtype")
    text(path / "config.json", config | {"transformers_version": version})
    torch.save(safetensors.torch.load_file(path / "model.safetensors"), path / "pytorch_model.bin")
    words = word_pieces().get_vocab()
    (path / "vocab.txt").write_text("".join(f"{word}\n" for word in sorted(words, key=words.get)))
    special = {f"{kind}_token": f"[{kind.upper()}]" for kind in ("unk", "sep", "pad", "cls", "mask")}
    text(path / "special_tokens_map.json", special)
    text(
        path / "tokenizer_config.json",
        special
        | {
            "do_lower_case": True,
            "do_basic_tokenize": True,
            "never_split": None,
            "tokenize_chinese_chars": True,
            "strip_accents": None,
            "model_max_length": 64,
            "tokenizer_class": "BertTokenizer",
        },
    )


def piped(saved, task, path, asked, **options):
    """What transformers' own pipeline answers of the folder."""
    from transformers import pipeline

    found = pipeline(task, model=path, **options)(asked)
    saved.answer("pipeline", near="float32", pipeline=found)


@case("bert-classification", "+", "transformers: BERT for sequence classification", "torch", TRANSFORMERS)
def bert_classification(saved):
    import torch
    from transformers import BertForSequenceClassification

    torch.manual_seed(0)
    model = BertForSequenceClassification(
        bert(id2label={0: "NEGATIVE", 1: "POSITIVE"}, label2id={"NEGATIVE": 0, "POSITIVE": 1})
    )
    path = folder(saved, "sentiment", model, word_pieces())
    saved.ask(texts=TEXTS)
    piped(saved, "text-classification", path, TEXTS)


@case(
    "bert-old-layout",
    "",
    "transformers: BERT for sequence classification, as release 4 wrote it, `pytorch_model.bin` alone",
    "torch",
    TRANSFORMERS,
)
def bert_old_layout(saved):
    import torch
    from transformers import BertForSequenceClassification

    torch.manual_seed(0)
    model = BertForSequenceClassification(
        bert(id2label={0: "NEGATIVE", 1: "POSITIVE"}, label2id={"NEGATIVE": 0, "POSITIVE": 1})
    )
    path = folder(saved, "sentiment", model, word_pieces())
    of_old(saved.model, "4.30.2")
    (saved.model / "model.safetensors").unlink()
    (saved.model / "tokenizer.json").unlink()
    saved.ask(texts=TEXTS)
    piped(saved, "text-classification", path, TEXTS)


@case("bert-tokens", "", "transformers: BERT for token classification", "torch", TRANSFORMERS)
def bert_tokens(saved):
    import torch
    from transformers import BertForTokenClassification

    torch.manual_seed(11)
    path = folder(
        saved,
        "entities",
        BertForTokenClassification(bert(id2label={0: "O", 1: "B-ACT"}, label2id={"O": 0, "B-ACT": 1})),
        word_pieces(),
    )
    saved.ask(texts=TEXTS)
    piped(saved, "token-classification", path, TEXTS)


@case("bert-mask", "", "transformers: BERT for masked words", "torch", TRANSFORMERS)
def bert_mask(saved):
    import torch
    from transformers import BertForMaskedLM

    torch.manual_seed(2)
    path = folder(saved, "masked", BertForMaskedLM(bert()), word_pieces())
    texts = ["the film was [MASK] .", "i [MASK] it"]
    saved.ask(texts=texts)
    piped(saved, "fill-mask", path, texts)


@case("bert-model", "", "transformers: BERT without a head (`AutoModel`)", "torch", TRANSFORMERS)
def bert_model(saved):
    import torch
    from transformers import BertModel

    torch.manual_seed(3)
    path = folder(saved, "encoder", BertModel(bert()), word_pieces())
    saved.ask(texts=TEXTS)
    piped(saved, "feature-extraction", path, TEXTS)


@case("gpt2", "+", "transformers: GPT-2 for text generation", "torch", TRANSFORMERS)
def gpt2(saved):
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(4)
    tokenizer = byte_pairs()
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=64,
        n_embd=32,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
        initializer_range=0.4,
    )
    model = GPT2LMHeadModel(config)
    model.generation_config.do_sample = False
    model.generation_config.max_new_tokens = 8
    path = folder(saved, "writer", model, tokenizer)
    saved.ask(texts=TEXTS)
    piped(saved, "text-generation", path, TEXTS)
    saved.note = "generation_config.json says that nothing is drawn by chance"


@case("vit", "+", "transformers: ViT for images", "torch", TRANSFORMERS + " pillow")
def vit(saved):
    import base64
    import io

    import numpy
    import torch
    from PIL import Image
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    torch.manual_seed(5)
    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
        initializer_range=0.3,
        id2label={0: "cat", 1: "dog", 2: "bird"},
        label2id={"cat": 0, "dog": 1, "bird": 2},
    )
    path = folder(saved, "pictures", ViTForImageClassification(config))
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(path)
    pixels = numpy.random.default_rng(5).integers(0, 256, (48, 40, 3), dtype=numpy.uint8)
    image = Image.fromarray(pixels)
    encoded = io.BytesIO()
    image.save(encoded, "PNG")
    saved.ask(
        texts=[base64.b64encode(encoded.getvalue()).decode()], images=[base64.b64encode(encoded.getvalue()).decode()]
    )
    piped(saved, "image-classification", path, [image])


@case(
    "sentence-transformer",
    "17",
    "sentence-transformers: all-MiniLM-L6-v2's layout and versions, small random weights",
    "torch",
    TRANSFORMERS + " sentence-transformers",
)
def sentence_transformer(saved):
    import torch
    from sentence_transformers import SentenceTransformer, models
    from transformers import BertModel

    torch.manual_seed(6)
    BertModel(bert()).save_pretrained("plain")
    word_pieces().save_pretrained("plain")
    words = models.Transformer("plain", max_seq_length=32)
    model = SentenceTransformer(
        modules=[words, models.Pooling(words.get_word_embedding_dimension(), "mean"), models.Normalize()], device="cpu"
    )
    path = saved.path("all-MiniLM-L6-v2")
    model.save(str(path))
    # What stands in the one that everybody uses, of 2021.
    shutil.rmtree(path / "2_Normalize", ignore_errors=True)
    of_old(path, "4.8.2")
    text(
        path / "config_sentence_transformers.json",
        {"__version__": {"sentence_transformers": "2.0.0", "transformers": "4.6.1", "pytorch": "1.8.1"}},
    )
    text(
        path / "modules.json",
        [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ],
    )
    text(path / "sentence_bert_config.json", {"max_seq_length": 32, "do_lower_case": False})
    text(
        path / "1_Pooling" / "config.json",
        {
            "word_embedding_dimension": 32,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True,
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
    )
    (path / "train_script.py").write_text("import torch\n\nprint('how it was trained', torch.__version__)\n")
    saved.ask(texts=TEXTS)
    saved.answer("encode", encode=SentenceTransformer(str(path), device="cpu").encode(TEXTS))


@case(
    "sentence-transformer-new",
    "",
    "sentence-transformers, as today's release saves it",
    "torch",
    TRANSFORMERS + " sentence-transformers",
)
def sentence_transformer_new(saved):
    import torch
    from sentence_transformers import SentenceTransformer, models
    from transformers import BertModel

    torch.manual_seed(7)
    BertModel(bert()).save_pretrained("plain")
    word_pieces().save_pretrained("plain")
    words = models.Transformer("plain", max_seq_length=32)
    model = SentenceTransformer(
        modules=[words, models.Pooling(words.get_word_embedding_dimension(), "cls")], device="cpu"
    )
    path = saved.path("encoder")
    model.save(str(path))
    saved.ask(texts=TEXTS)
    saved.answer("encode", encode=model.encode(TEXTS))


@case("cross-encoder", "", "sentence-transformers' CrossEncoder", "torch", TRANSFORMERS + " sentence-transformers")
def cross_encoder(saved):
    import torch
    from sentence_transformers import CrossEncoder
    from transformers import BertForSequenceClassification

    torch.manual_seed(8)
    BertForSequenceClassification(bert(num_labels=1)).save_pretrained("plain")
    word_pieces().save_pretrained("plain")
    model = CrossEncoder("plain", device="cpu")
    path = saved.path("reranker")
    model.save_pretrained(str(path))
    pairs = [["the film", "was good"], ["the plot", "i hate it"]]
    saved.ask(rows=pairs, value=pairs)
    saved.answer("predict", predict=model.predict(pairs))


@case("tokenizers", "", "tokenizers, `tokenizer.json`", "torch", "tokenizers")
def tokenizers(saved):
    tokenizer = word_pieces()._tokenizer
    tokenizer.save(str(saved.path("tokenizer.json")))
    saved.ask(texts=TEXTS)
    found = tokenizer.encode_batch(TEXTS)
    saved.answer(
        "encode ids", ids=[one.ids for one in found], encode=[{"ids": one.ids, "tokens": one.tokens} for one in found]
    )


@case("diffusers", "", "a folder of diffusers, tiny and random", "torch", TRANSFORMERS + " diffusers")
def diffusers(saved):
    import torch
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    torch.manual_seed(9)
    net = UNet2DModel(
        sample_size=8,
        in_channels=3,
        out_channels=3,
        layers_per_block=1,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    pipe = DDPMPipeline(net, DDPMScheduler(num_train_timesteps=20))
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(saved.path("painter"))
    # Its answer is pictures, which are not compared.
    saved.answer("none", none=None)


@case("peft", "", "an adapter of peft (LoRA), without the model that it adapts", "torch", TRANSFORMERS + " peft")
def peft(saved):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import BertForSequenceClassification

    torch.manual_seed(10)
    model = get_peft_model(
        BertForSequenceClassification(bert()), LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"])
    )
    model.peft_config["default"].base_model_name_or_path = "google-bert/bert-base-uncased"
    model.save_pretrained(saved.path("adapter"))
    saved.ask(texts=TEXTS)
    saved.answer("none", none=None)
    saved.lacking = "the model that it adapts"


@case("gguf", "", "GGUF of a tiny llama, by the gguf package", "torch", "gguf numpy")
def gguf(saved):
    import gguf
    import numpy

    random = numpy.random.default_rng(0)
    pieces = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + ["▁", "▁the", "▁film", "▁good"]
    width, heads, layers, inner = 32, 2, 1, 64
    writer = gguf.GGUFWriter(str(saved.path("tiny.gguf")), "llama")
    writer.add_name("tiny")
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_rope_dimension_count(width // heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(pieces))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(pieces)
    writer.add_token_scores([0.0] * 259 + [-1.0, -2.0, -3.0, -4.0])
    writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * 4)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)

    def tensor(name, *shape):
        writer.add_tensor(name, random.normal(0, 0.3, shape).astype(numpy.float32))

    tensor("token_embd.weight", len(pieces), width)
    tensor("output.weight", len(pieces), width)
    writer.add_tensor("output_norm.weight", numpy.ones(width, numpy.float32))
    for name in ("attn_norm", "ffn_norm"):
        writer.add_tensor(f"blk.0.{name}.weight", numpy.ones(width, numpy.float32))
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        tensor(f"blk.0.{name}.weight", width, width)
    tensor("blk.0.ffn_gate.weight", inner, width)
    tensor("blk.0.ffn_up.weight", inner, width)
    tensor("blk.0.ffn_down.weight", width, inner)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    saved.ask(texts=["the film"], value={"prompt": "the film", "max_tokens": 8, "temperature": 0.0})
    saved.answer("none", none=None)
    saved.lacking = "a wheel of llama-cpp-python, which has none and needs a compiler"
