"""From run folders to what people read: `summarize_*` functions make records, tables only render them."""
