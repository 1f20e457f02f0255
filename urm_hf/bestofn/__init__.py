"""Best of n: choosing answers, and how good that is for every n."""
