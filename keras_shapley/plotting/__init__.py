"""Pictures of attributions. Matplotlib is imported when something is drawn, and no window is ever opened."""
