#!/usr/bin/env python3
"""Check that the model of model.py and transformers' T5 give the same logits from the same (random) weights."""

import torch
from model import Model
from train import SIZES
from transformers import T5Config, T5ForConditionalGeneration


def main():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    for name, sizes in SIZES.items():
        model = Model(sizes)
        for parameter in model.parameters():
            parameter.data += torch.randn_like(parameter) * 0.02
        theirs = T5ForConditionalGeneration(T5Config(**sizes.hugging_face())).eval()
        # transformers ties the two until a checkpoint with both is loaded.
        theirs.lm_head.weight = torch.nn.Parameter(torch.zeros(sizes.vocab_size, sizes.d_model))
        missing, unexpected = theirs.load_state_dict(model.to_hugging_face(), strict=False)
        assert not unexpected and all("embed_tokens" in n for n in missing), (missing, unexpected)
        theirs.set_input_embeddings(theirs.shared)
        ids = torch.randint(3, sizes.vocab_size, (3, sizes.n_positions))
        ids[1, 50:] = 0
        outputs = torch.randint(3, sizes.vocab_size, (3, 20))
        outputs[:, 0] = 0
        with torch.no_grad():
            ours = model.logits(model.decode(outputs, *model.encode(ids))[-1])
            reference = theirs(
                input_ids=ids,
                attention_mask=(ids != 0).long(),
                decoder_input_ids=outputs,
                decoder_attention_mask=torch.ones_like(outputs),
                use_cache=False,
            ).logits
            greedy = model.greedy(ids[:1], 12)
            generated = theirs.generate(input_ids=ids[:1], max_new_tokens=12, do_sample=False, use_cache=False)[
                0, 1:
            ].tolist()
        difference = ((ours - reference).abs().max() / reference.abs().max()).item()
        print(f"{name}: {sum(p.numel() for p in model.parameters())} parameters, relative difference {difference:.1e}")
        assert difference < 1e-4
        assert greedy[0] == [t for t in generated if t > 1], (greedy, generated)


if __name__ == "__main__":
    main()
