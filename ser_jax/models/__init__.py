"""Networks, a file per family (CNNs; recurrent, attention, pretrained to come), and layers."""
